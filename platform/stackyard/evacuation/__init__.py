"""How nothing that anyone made on a leased cluster is lost: saved all the time, and proven before it goes."""
