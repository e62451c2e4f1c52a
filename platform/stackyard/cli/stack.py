"""Finding a running stack: `up` leaves a card of addresses and folders in the checkout, `destroy` takes it away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from stackyard.cli.failures import INVALID_SPEC, Failure

if TYPE_CHECKING:
    from stackyard.spec import StackSpec
    from stackyard.store.objects import Store


class ProcessCard(BaseModel):
    """One supervised process."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    name: str
    log: str


class StackCard(BaseModel):
    """`.stackyard/<stack>/stack.json`, written by `pulumi up`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    stack: str
    stack_id: str
    runtime: str
    state: str
    store: str
    model: str
    public_keys: list[str]
    addresses: dict[str, str]
    """`predict`, `metrics`, `mlflow`: where people and programs go."""
    processes: list[ProcessCard]
    replica_ports: list[int]
    database: str
    operator_key: str = ""
    """The private file that signs people's wishes; empty in a card of an older `up`."""
    labels_token_path: str = ""
    """The private file with the token that `POST /labels` and `POST /flush` ask for."""
    clock: str | None = None
    """The file that holds the time, where it is virtual."""
    plan: str = ""
    """Digest of the lowered plan, which approvals bind; empty in a card of an older `up`."""


def find(stack: str) -> StackCard:
    """The card of `stack`. Raises Failure when the stack is not up."""
    path = checkout() / ".stackyard" / stack / "stack.json"
    try:
        return StackCard.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise Failure(f"stack {stack} is not up: `make up`, or `pulumi up -s {stack}`") from None
    except ValidationError as error:
        raise Failure(
            f"{path} is not a stack's card ({error.error_count()} problems): `pulumi up -s {stack}`"
        ) from None


def open_store(card: StackCard) -> Store:
    """The stack's artifact store. Raises Failure when it is away: looking must not make an empty one."""
    from stackyard.store.objects import Store

    if "://" not in card.store and not Path(card.store).is_dir():
        raise Failure(f"the artifact store {card.store} is away")
    return Store.open(card.store)


def checkout() -> Path:
    """The folder with Pulumi.yaml, here or above. Raises Failure."""
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "Pulumi.yaml").is_file():
            return folder
    raise Failure("no Pulumi.yaml here or above: run this inside the checkout")


def spec(stack: str) -> StackSpec:
    """The spec of `stack`. Raises Failure, exit code 3, with every problem on a line of its own."""
    from stackyard.spec import SpecError, find_stack, load

    try:
        return load(find_stack(stack, Path.cwd()))
    except SpecError as error:
        raise Failure(str(error), INVALID_SPEC) from None
