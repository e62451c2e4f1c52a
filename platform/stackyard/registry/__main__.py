"""`python -m stackyard.registry < PROJECTION.json`: one projection in a process of its own.

MLflow's client is heavy and slow to give up on a server that is away; whoever asks for a projection should feel
neither. Exit 0 when it was made, 1 when not. `python -m stackyard.registry rebuild SETTINGS`, with the controller's
settings file, makes all of them again from the store.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from stackyard.registry.mlflow_projection import follow, project


def main(arguments: list[str]) -> int:
    """Make what standard input says: the arguments of `project`, or under `follow` those of `follow`, as JSON."""
    if arguments:
        return _rebuild(arguments)
    asked = json.load(sys.stdin)
    return 0 if (follow(**asked["follow"]) if "follow" in asked else project(**asked)) else 1


def _rebuild(arguments: list[str]) -> int:
    from stackyard.registry.rebuild import rebuild
    from stackyard.store.documents import DocumentError, public_text
    from stackyard.store.keys import KeyFileError, ensure_signing_key
    from stackyard.store.objects import Store

    if len(arguments) != 2 or arguments[0] != "rebuild":
        print("usage: python -m stackyard.registry [rebuild SETTINGS]", file=sys.stderr)
        return 2
    try:
        settings = json.loads(Path(arguments[1]).read_bytes())
        key, store = Path(settings["signing_key"]), str(settings["store"])
        if not key.exists() or ("://" not in store and not Path(store).is_dir()):
            raise FileNotFoundError(f"{store} or {key} is away")
        if settings.get("mlflow") is None:
            raise KeyError("mlflow")
        trusted = [public_text(ensure_signing_key(key).public_key())]
        shown, missing = rebuild(Store.open(store), settings["model"], settings["mlflow"], trusted)
    except KeyError as error:
        print(f"{arguments[1]}: {error} is not set", file=sys.stderr)
        return 1
    except (OSError, ValueError, KeyFileError, DocumentError) as error:
        print(f"nothing was rebuilt: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"shown": shown, "missing": missing}))
    return 0 if missing == 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
