"""Who serves, by the commands in the log: each is judged once, where it stands, and every replica comes to the same."""

import json
import pickle
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ml.core.fold.halt import Refold
from stream_ml.core.fold.replica import Replica
from stream_ml.core.fold.roles import DECLARED_MAX, NAME_MAX, VERDICTS_KEPT, WHOLE, Declared, Roles, Table
from stream_ml.core.log.entry import decode_entry, encode_command, encode_genesis
from stream_ml.core.model.lineage import LINEAGE_DIGITS, digest_of
from tests.support.partition import NOW_MS, command, example, fold_settings, log_of

LAW = settings(max_examples=120, deadline=None, derandomize=True, database=None)
LOG_ID = "1" * 32
GENESIS = encode_genesis(LOG_ID, "a" * 32, "shop", written_at_ms=NOW_MS, writer="shop-w1")


# --- commands ---


def spec(number: int) -> dict[str, Any]:
    """A specification of this log; each number's is another one."""
    return {"log_id": LOG_ID, "seed": number}


def lineage(number: int) -> str:
    return digest_of(spec(number))[:LINEAGE_DIGITS]


def order(name: str, /, **arguments: Any) -> bytes:
    """An entry of kind command, whose arguments may have a `name`."""
    return encode_command(name, arguments, written_at_ms=NOW_MS, writer="operator")


def declare(number: int, **changes: Any) -> bytes:
    said = {"spec": spec(number), "lineage": lineage(number), "name": f"model-{number}", "by": f"w{number}"}
    return order("declare", **said | changes)


def serve(number: int, epoch: Any, **changes: Any) -> bytes:
    return order("serve", **{"epoch": epoch, "arms": [{"lineage": lineage(number), "share": WHOLE}]} | changes)


def retire(number: int, epoch: Any) -> bytes:
    return order("retire", epoch=epoch, lineage=lineage(number))


def judge(roles: Roles, *values: bytes, first: int = 0) -> Roles:
    """Note these entries at offsets from `first` on."""
    for offset, value in enumerate(values, first):
        roles.note(offset, decode_entry(value), LOG_ID)
    return roles


def judged(*values: bytes) -> Roles:
    return judge(Roles(), *values)


def kinds(roles: Roles) -> list[str]:
    """What became of the commands, in order."""
    return [verdict.kind for verdict in roles.verdicts.values()]


def refusal(roles: Roles) -> str:
    """Why the last command was refused; it has changed nothing else."""
    offset, verdict = list(roles.verdicts.items())[-1]
    assert (verdict.kind, verdict.lineage) == ("refused", "")
    assert f" at {offset} is refused: " in verdict.words
    return verdict.words


# --- declare ---


def test_a_model_is_declared_with_its_digest_its_place_and_who_wrote_it() -> None:
    roles = judged(declare(1), declare(2, standby=False, auto=True))
    assert kinds(roles) == ["declared", "declared"]
    assert roles.declared == {
        lineage(1): Declared(lineage(1), digest_of(spec(1)), "model-1", 0, NOW_MS, "w1", last=0),
        lineage(2): Declared(
            lineage(2), digest_of(spec(2)), "model-2", 1, NOW_MS, "w2", standby=False, auto=True, last=1
        ),
    }
    assert (roles.table, roles.refused, roles.judged_upto) == (Table(), 0, 2)


WRONG_DECLARATIONS: list[tuple[dict[str, Any], str]] = [
    ({"lineage": lineage(2)}, "its lineage is not the digest of its specification"),
    ({"lineage": digest_of(spec(1))}, "its lineage is not the digest of its specification"),
    ({"lineage": None}, "its lineage is not the digest of its specification"),
    ({"spec": None}, "its lineage is not the digest of its specification"),
    ({"spec": [spec(1)]}, "its lineage is not the digest of its specification"),
    ({"name": ""}, "1 to 64 characters that can be printed"),
    ({"name": "m" * (NAME_MAX + 1)}, "1 to 64 characters that can be printed"),
    ({"name": "two\nlines"}, "1 to 64 characters that can be printed"),
    ({"name": "\x1b[31m"}, "1 to 64 characters that can be printed"),
    ({"name": "\ud800"}, "1 to 64 characters that can be printed"),
    ({"name": 5}, "1 to 64 characters that can be printed"),
    ({"name": None}, "1 to 64 characters that can be printed"),
]


@pytest.mark.parametrize(("changes", "words"), WRONG_DECLARATIONS, ids=lambda value: ascii(value)[:40])
def test_a_declaration_that_proves_nothing_is_refused(changes: dict[str, Any], words: str) -> None:
    roles = judged(declare(1, **changes))
    assert words in refusal(roles)
    assert (roles.declared, roles.refused) == ({}, 1)


@pytest.mark.parametrize("missing", ["spec", "lineage", "name"])
def test_a_declaration_that_leaves_something_out_is_refused(missing: str) -> None:
    said = {"spec": spec(1), "lineage": lineage(1), "name": "model-1"}
    del said[missing]
    roles = judged(order("declare", **said))
    assert missing in refusal(roles)
    assert (roles.declared, roles.refused) == ({}, 1)


@pytest.mark.parametrize("log_id", ["2" * 32, "", None])
def test_a_declaration_for_another_log_is_refused(log_id: Any) -> None:
    other = {**spec(1), "log_id": log_id}
    roles = judged(declare(1, spec=other, lineage=digest_of(other)[:LINEAGE_DIGITS]))
    assert "for another log" in refusal(roles)
    assert roles.declared == {}


@pytest.mark.parametrize("name", ["m", "m" * NAME_MAX, "flights, 2nd"])
def test_names_that_can_be_printed_are_taken(name: str) -> None:
    assert judged(declare(1, name=name)).declared[lineage(1)].name == name


def test_a_known_model_that_is_declared_again_takes_name_and_standby_and_keeps_its_place() -> None:
    roles = judged(declare(1, auto=True), declare(1, name="other", standby=False, by="w9"))
    again = roles.declared[lineage(1)]
    assert (again.name, again.standby, again.auto) == ("other", False, True)
    assert (again.position, again.last, again.by, again.digest) == (0, 1, "w1", digest_of(spec(1)))
    assert len(roles.declared) == 1


def test_a_model_that_is_declared_once_more_does_not_take_over_by_itself_again() -> None:
    """Else a copy of an old declaration, or one that was late, would undo a rollback."""
    roles = judged(declare(1, auto=True), declare(2), serve(1, 0), serve(2, 3), declare(1, auto=True))
    again = roles.declared[lineage(1)]
    assert (again.epoch, again.served, again.auto) == (0, True, True)
    assert roles.declared[lineage(2)].served


def test_another_model_whose_digest_begins_alike_is_refused() -> None:
    roles = judged(declare(1))
    known = roles.declared[lineage(1)]._replace(digest=lineage(1) + "0" * 48)
    roles.declared[lineage(1)] = known
    judge(roles, declare(1, name="other"), first=1)
    assert "whose digest begins alike" in refusal(roles)
    assert roles.declared == {lineage(1): known}


def test_a_retired_model_is_declared_again_only_with_the_epoch_in_force() -> None:
    roles = judged(declare(1), declare(2), serve(1, 0), retire(2, 3), declare(2), declare(2, epoch=0))
    assert kinds(roles)[-2:] == ["refused", "refused"]
    assert "is retired, and epoch 3 is in force" in refusal(roles)
    assert roles.declared[lineage(2)].retired
    judge(roles, declare(2, epoch=3), first=6)
    assert kinds(roles)[-1] == "declared" and not roles.declared[lineage(2)].retired
    assert (roles.refused, roles.standbys[0].lineage) == (2, lineage(2))


def test_a_log_holds_so_many_models_and_no_more() -> None:
    roles = judged(*(declare(number) for number in range(DECLARED_MAX)))
    assert (len(roles.declared), roles.refused) == (DECLARED_MAX, 0)
    judge(roles, declare(DECLARED_MAX), declare(0, name="known"), first=DECLARED_MAX)
    assert kinds(roles)[-2:] == ["refused", "declared"]
    assert (len(roles.declared), roles.refused) == (DECLARED_MAX, 1)


# --- serve ---


def test_serve_puts_a_model_in_the_place_of_the_one_before() -> None:
    roles = judged(declare(1), declare(2), serve(1, 0))
    assert roles.table == Table(3, lineage(1), "", NOW_MS)
    judge(roles, serve(2, 3), first=3)
    assert roles.table == Table(4, lineage(2), lineage(1), NOW_MS)
    assert [one.served for one in roles.declared.values()] == [True, True]
    assert kinds(roles) == ["declared", "declared", "serving", "serving"]
    assert roles.verdicts[3].lineage == lineage(2)


@pytest.mark.parametrize("epoch", [0, 2, 4, -1, 3.0, "3", True, None, [3]], ids=str)
def test_a_serve_that_names_another_epoch_is_refused(epoch: Any) -> None:
    roles = judged(declare(1), declare(2), serve(1, 0), serve(2, epoch))
    assert "epoch 3 is in force: look, and decide anew" in refusal(roles)
    assert (roles.table, roles.refused) == (Table(3, lineage(1), "", NOW_MS), 1)
    assert not roles.declared[lineage(2)].served


@pytest.mark.parametrize("epoch", [False, 0.0, "", None])
def test_what_only_equals_the_first_epoch_is_none(epoch: Any) -> None:
    roles = judged(declare(1), serve(1, epoch))
    assert (roles.table, roles.refused) == (Table(), 1)


def test_an_order_that_is_repeated_after_a_lost_answer_changes_nothing() -> None:
    roles = judged(declare(1), serve(1, 0), serve(1, 0))
    assert kinds(roles) == ["declared", "serving", "refused"]
    assert roles.table.epoch == 2


def test_the_one_that_serves_may_be_ordered_again_under_the_epoch_of_now() -> None:
    roles = judged(declare(1), serve(1, 0), serve(1, 2))
    assert roles.table == Table(3, lineage(1), lineage(1), NOW_MS)


def test_a_model_that_nobody_declared_does_not_serve() -> None:
    roles = judged(declare(1), serve(2, 0))
    assert f"no model with the lineage {lineage(2)} was declared" in refusal(roles)
    assert (roles.table, roles.refused) == (Table(), 1)


def test_a_retired_model_does_not_serve_until_it_is_declared_again() -> None:
    roles = judged(declare(1), retire(1, 0), serve(1, 0))
    assert "is retired: declare it again" in refusal(roles)
    judge(roles, declare(1, epoch=0), serve(1, 0), first=3)
    assert (roles.table.lineage, roles.refused) == (lineage(1), 1)


WRONG_ARMS: list[Any] = [
    [{"lineage": lineage(1), "share": WHOLE - 1}],
    [{"lineage": lineage(1), "share": WHOLE + 1}],
    [{"lineage": lineage(1), "share": 0}],
    [{"lineage": lineage(1), "share": str(WHOLE)}],
    [{"lineage": lineage(1), "share": None}],
    [{"lineage": lineage(1)}],
    [{"share": WHOLE}],
    [{"lineage": [lineage(1)], "share": WHOLE}],
    [{"lineage": None, "share": WHOLE}],
    [lineage(1)],
    [None],
    [],
    {},
    None,
    lineage(1),
    5,
]


@pytest.mark.parametrize("arms", WRONG_ARMS, ids=str)
def test_a_table_whose_arms_make_no_sense_is_refused(arms: Any) -> None:
    roles = judged(declare(1), serve(1, 0, arms=arms))
    refusal(roles)
    assert (roles.table, roles.refused) == (Table(), 1)


# --- retire ---


def test_a_retired_model_is_no_standby_any_more() -> None:
    roles = judged(declare(1), declare(2), declare(3), serve(1, 0))
    assert [one.name for one in roles.standbys] == ["model-3", "model-2"]
    judge(roles, retire(3, 4), first=4)
    assert kinds(roles)[-1] == "retired" and [one.name for one in roles.standbys] == ["model-2"]


def test_the_model_that_serves_is_not_retired() -> None:
    roles = judged(declare(1), serve(1, 0), retire(1, 2))
    assert "serves: put another one in its place first" in refusal(roles)
    assert not roles.declared[lineage(1)].retired


@pytest.mark.parametrize(("number", "epoch", "words"), [(2, 0, "epoch 3 is in force"), (9, 3, "was declared")])
def test_a_retirement_that_is_stale_or_of_nobody_is_refused(number: int, epoch: int, words: str) -> None:
    roles = judged(declare(1), declare(2), serve(1, 0), retire(number, epoch))
    assert words in refusal(roles)
    assert not any(one.retired for one in roles.declared.values())


# --- positions, state, names ---


def test_what_was_judged_is_passed_over() -> None:
    values = [declare(1), serve(1, 0), serve(1, 0), retire(1, 2), declare(2)]
    roles = judged(*values)
    before = pickle.dumps((roles.state(), roles.verdicts))
    for first in (0, 1, 4):
        judge(roles, *values[first:], first=first)
    assert pickle.dumps((roles.state(), roles.verdicts)) == before
    assert (roles.judged_upto, roles.refused) == (5, 2)


@pytest.mark.parametrize("value", [example(0), GENESIS, command("freeze"), command("skip", position=1)])
def test_of_other_entries_nothing_is_taken(value: bytes) -> None:
    assert judge(Roles(), value, first=7).state() == Roles().state()


def test_the_state_is_plain_values_and_reads_back() -> None:
    roles = judged(declare(1, auto=True), declare(2, standby=False), serve(1, 0), serve(2, 0), retire(2, 3))
    state = json.loads(json.dumps(roles.state()))
    assert state == roles.state()
    again = Roles()
    again.restore(state)
    assert again.state() == roles.state()
    assert (again.declared, again.table) == (roles.declared, roles.table)
    assert (again.judged_upto, again.refused) == (5, 1)
    later = [serve(1, 3), declare(2, epoch=6), serve(2, 6)]
    assert judge(again, *later, first=5).state() == judge(roles, *later, first=5).state()


def test_of_verdicts_the_last_ones_are_kept_and_of_refusals_all_are_counted() -> None:
    roles = judged(*(serve(1, 0) for _ in range(VERDICTS_KEPT + 50)))
    assert list(roles.verdicts) == list(range(50, VERDICTS_KEPT + 50))
    assert roles.refused == VERDICTS_KEPT + 50


def test_a_model_is_found_by_its_name_the_newest_first_else_by_how_its_lineage_begins() -> None:
    roles = judged(declare(1, name="flights"), declare(2, name="flights"), declare(3))
    assert [one.lineage for one in roles.named("flights")] == [lineage(2), lineage(1)]
    assert [one.name for one in roles.named(lineage(3)[:9])] == ["model-3"]
    assert roles.named("no such") == []


# --- any program of several writers ---


class Step(NamedTuple):
    """What a writer does: it looks at the log first, or goes by what it saw when it last looked."""

    writer: int
    looks: bool
    command: Literal["declare", "serve", "retire"]
    number: int


STEPS = st.lists(
    st.builds(
        Step,
        writer=st.integers(0, 2),
        looks=st.booleans(),
        command=st.sampled_from(("declare", "serve", "serve", "retire")),
        number=st.integers(0, 3),
    ),
    min_size=1,
    max_size=60,
)


class Written(NamedTuple):
    """An entry, and the epoch that it names."""

    value: bytes
    epoch: int


def program(steps: list[Step]) -> list[Written]:
    """The log that these writers write; it begins with one model that serves."""
    written = [Written(declare(0), 0), Written(serve(0, 0), 0)]
    roles, seen = judged(*(one.value for one in written)), dict.fromkeys(range(3), 0)
    for offset, step in enumerate(steps, len(written)):
        if step.looks:
            seen[step.writer] = roles.table.epoch
        epoch, number = seen[step.writer], step.number
        if step.command == "declare":
            value = declare(number, epoch=epoch, name=f"by {step.writer}", auto=step.looks)
        else:
            value = serve(number, epoch) if step.command == "serve" else retire(number, epoch)
        judge(roles, value, first=offset)
        written.append(Written(value, epoch))
    return written


@LAW
@given(steps=STEPS, restores=st.sets(st.integers(0, 60)), back=st.lists(st.integers(0, 60), max_size=4))
def test_any_program_of_commands_comes_to_the_same_wherever_it_is_cut(
    steps: list[Step], restores: set[int], back: list[int]
) -> None:
    """Also where a refold passes commands again; and of two that replace one epoch at most one is obeyed."""
    written = program(steps)
    once = Roles()
    obeyed: set[int] = set()
    for offset, one in enumerate(written):
        judge(once, one.value, first=offset)
        if once.verdicts[offset].kind == "serving":
            assert one.epoch not in obeyed
            obeyed.add(one.epoch)
            assert once.table.epoch == offset + 1
        if offset > 0:
            assert not once.declared[once.table.lineage].retired
    cut = Roles()
    for offset, one in enumerate(written):
        if offset in restores:
            state = json.loads(json.dumps(cut.state()))
            cut = Roles()
            cut.restore(state)
        for first in (first for first in back if first < offset):
            judge(cut, *(again.value for again in written[first:offset]), first=first)
        judge(cut, one.value, first=offset)
    assert cut.state() == once.state()
    assert once.refused == kinds(once).count("refused")


# --- through the book ---


def drive(replica: Replica, values: list[bytes], chunk: int) -> Replica:
    """Fold to the end of these; where the book goes back, fold from there."""
    for _ in range(1_000):
        some = log_of(values)[replica.read_position :][:chunk]
        if not some:
            return replica
        if isinstance(replica.fold(some), Refold):
            replica.clear_halt()
    raise AssertionError("it goes round in circles")


def fold(*values: bytes, chunk: int = 1_000) -> Replica:
    return drive(Replica(fold_settings()), list(values), chunk)


def told(replica: Replica) -> list[tuple[int, str]]:
    """Position and kind of what the watch has told, in order."""
    return [(signal.position, signal.kind) for signal in replica.watch.concept.signals]


HALTED = [GENESIS, declare(1), declare(2), example(0), example(5), serve(1, 0)]  # 4 is a gap
GOES_ON = [*HALTED, command("skip", position=4), example(1), serve(2, 6), serve(1, 6)]
TOLD = [
    (1, "declared"),
    (2, "declared"),
    (4, "halted"),
    (5, "serving"),
    (6, "resumed"),
    (8, "serving"),
    (9, "refused"),
]


@pytest.mark.parametrize("chunk", [1, 2, 1_000])
def test_a_serve_is_obeyed_where_it_stands_also_while_the_book_is_halted(chunk: int) -> None:
    replica = fold(*HALTED, chunk=chunk)
    assert replica.book.halt is not None and replica.book.halt.position == replica.book.position == 4
    roles = replica.book.facts.roles
    assert (roles.table, roles.refused) == (Table(6, lineage(1), "", NOW_MS), 0)


@pytest.mark.parametrize("chunk", [1, 2, 1_000])
def test_a_serve_is_not_obeyed_a_second_time_when_the_book_refolds(chunk: int) -> None:
    replica = fold(*GOES_ON, chunk=chunk)
    assert (replica.halt, replica.book.position) == (None, len(GOES_ON))
    roles = replica.book.facts.roles
    assert (roles.table, roles.refused) == (Table(9, lineage(2), lineage(1), NOW_MS), 1)
    assert {offset: verdict.kind for offset, verdict in roles.verdicts.items()} == {
        1: "declared",
        2: "declared",
        5: "serving",
        8: "serving",
        9: "refused",
    }
    assert replica.watch.champion == lineage(2)


@pytest.mark.parametrize("chunk", [1, 2, 1_000])
def test_each_verdict_is_told_once_at_its_command(chunk: int) -> None:
    assert told(fold(*GOES_ON, chunk=chunk)) == TOLD


def test_the_watch_follows_a_serve_of_a_long_halt() -> None:
    """More commands than verdicts are kept stand between the halt and the command that ends it."""
    stale = [serve(2, 0) for _ in range(VERDICTS_KEPT)]
    replica = fold(*HALTED, *stale, command("skip", position=4))
    assert (replica.halt, replica.book.facts.roles.refused) == (None, len(stale))
    assert replica.watch.champion == replica.book.facts.roles.table.lineage == lineage(1)


def test_a_replica_that_is_restored_while_it_refolds_tells_the_same() -> None:
    """A checkpoint between the halt that was ended and a command that was judged while it lasted."""
    refolding = Replica(fold_settings())
    for record in log_of(GOES_ON[:7]):
        if isinstance(refolding.fold([record]), Refold):
            assert refolding.clear_halt() == 4
    refolding.fold(log_of(GOES_ON)[4:5])
    assert (refolding.book.position, refolding.halt) == (5, None)
    restored = Replica(fold_settings())
    restored.restore(pickle.loads(pickle.dumps(refolding.state())))
    for replica in (refolding, restored):
        drive(replica, GOES_ON[:8], 1)
        assert replica.watch.champion == lineage(1)
        drive(replica, GOES_ON, 1)
    assert restored.book.facts.state() == refolding.book.facts.state()
    assert told(restored) == told(refolding) == TOLD


def test_a_declaration_before_the_log_has_an_identity_is_refused() -> None:
    replica = fold(declare(1), GENESIS, declare(1))
    roles = replica.book.facts.roles
    assert kinds(roles) == ["refused", "declared"]


TWO_ARMS = serve(1, 0, arms=[{"lineage": lineage(number), "share": WHOLE // 2} for number in (1, 2)])
LATER = {"two arms": TWO_ARMS, "another version": serve(1, 0, v=2)}


@pytest.mark.parametrize("later", LATER.values(), ids=LATER)
def test_a_serve_of_a_later_version_halts_the_book(later: bytes) -> None:
    replica = fold(GENESIS, declare(1), declare(2), later, example(0))
    assert replica.book.halt is not None
    assert (replica.book.halt.position, replica.book.halt.reason) == (3, "unknown_command")
    assert replica.book.facts.roles.table.lineage == ""


@pytest.mark.parametrize("later", LATER.values(), ids=LATER)
@pytest.mark.parametrize("chunk", [1, 1_000])
def test_a_serve_of_a_later_version_is_not_judged_while_the_book_is_halted(later: bytes, chunk: int) -> None:
    """A later version goes on from this book's checkpoint, and is to judge the command itself."""
    values = [GENESIS, declare(1), declare(2), example(0), example(5), later, command("skip", position=4)]
    replica = fold(*values, chunk=chunk)
    assert replica.book.halt is not None
    assert (replica.book.halt.position, replica.book.halt.reason) == (5, "unknown_command")
    roles = replica.book.facts.roles
    assert (roles.table, roles.refused, roles.judged_upto) == (Table(), 0, 3)
