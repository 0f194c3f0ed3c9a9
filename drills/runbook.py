"""The runbook: how a deployment was restored in its newest run, step by step, as Markdown for whoever has to do it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from drills.last_run import COMPONENTS, Drill, Event, FinishedRun, NothingToShow, Step, drills_of
from reports.records import UsageProblem, format_duration

# What each step is, beside the commands that the journal holds: the suite does this part in its own process.
STEPS: Final = {
    "detect": "A probe of the drill noticed. In operation: the health endpoints, or whoever reports it.",
    "shut out": "Stop the services, close every server that still lives to the application's role and keys, and take"
    " away what will be rebuilt.",
    "provision": "Provide empty servers for what is gone, on the old addresses and closed to clients. Hold the backup"
    " set against its manifest before anything is read from it.",
    "restore configuration": "Put the restored configuration in force.",
    "start": "Let the application's role and keys in, and start the services: the one that clients reach last, each"
    " once those behind it are ready.",
    "ready": "Wait until every service says that it is ready.",
    "first transaction": "Make one whole business transaction through the product's own interface.",
}
# What a method does in the suite's own process, as the command that does the same.
BY_HAND: Final = {
    ("configuration", "age"): (
        "umask 077\n"
        "age --decrypt --identity '<identity file>' --output '<scratch>/environment.json'"
        " '<configuration backup>/configuration/environment.json.age'"
    ),
    ("database", "pg_dump"): (
        "pg_ctl --pgdata='<data directory>' --wait start\n"
        "# The roles, for psql to read, without the superuser, who is there already; remove the file afterwards.\n"
        "umask 077\n"
        "age --decrypt --identity '<identity file>' '<backup set>/database/roles.sql.age'"
        " | grep --invert-match --line-regexp 'CREATE ROLE postgres;' > '<scratch>/roles.sql'"
    ),
}
# The same for a deployment that somebody else runs: its server lived on, and the suite closes it to nobody.
ATTACHED: Final = "attached"
STEPS_ATTACHED: Final = STEPS | {
    "shut out": "Stop the services. Nobody else is kept out of the server.",
    "provision": "See that the database is gone and the bucket is empty: nothing is restored over what is there. Hold"
    " the backup set against its manifest before anything is read from it.",
    "restore configuration": "Write the restored values into the services' environment file, as NAME=value lines, with"
    " the owner and the mode that it had; nothing where the profile names no configuration.file.",
    "start": "Start the services, each once those behind it are ready.",
}
BY_HAND_ATTACHED: Final = {
    ("configuration", "age"): (
        "umask 077\n"
        "# One JSON object of the values; remove the file afterwards.\n"
        "age --decrypt --identity '<identity file>' --output '<scratch>/values.json'"
        " '<configuration backup>/configuration/environment.json.age'"
    ),
    ("database", "pg_dump"): (
        "# The roles, for psql to read, without those that are there already, and without tablespaces, which outlived\n"
        "# the database with their server; remove both files afterwards. Reach the server as the next command does.\n"
        "umask 077\n"
        "psql --dbname=postgres --no-align --tuples-only"
        " --command=\"SELECT format('CREATE ROLE %I;', rolname) FROM pg_roles\" > '<scratch>/there'\n"
        "age --decrypt --identity '<identity file>' '<backup set>/database/roles.sql.age'"
        " | grep --invert-match --line-regexp --fixed-strings --file='<scratch>/there'"
        " | grep --invert-match '^CREATE TABLESPACE ' > '<scratch>/roles.sql'"
    ),
}
# What has to be done after a restore of the server's files, by the method's log.
_RECOVER: Final = (
    "# To be added to postgresql.auto.conf in <data directory>; the target is left out to go as far as the log does:\n"
    '#   restore_command = \'cp "<archive>/wal/%f" "%p" || cp "<archive>/wal/%f.partial" "%p"\'\n'
    "#   recovery_target_time = '…'   or recovery_target_name, or recovery_target_lsn\n"
    "#   recovery_target_action = promote\n"
    "#   archive_mode = off, archive_library = '', synchronous_standby_names = ''   (the old archive stays as it is)\n"
    "touch '<data directory>/recovery.signal'\n"
    "pg_ctl --pgdata='<data directory>' --wait start"
)
_START: Final = "pg_ctl --pgdata='<data directory>' --wait start   # the tool has written the recovery's settings"
AFTERWARDS: Final = {
    "basebackup_wal": _RECOVER,
    "basebackup_incremental": _RECOVER,
    "barman": _START,
    "pgbackrest": _START,
}
# A backup older than a rotation brings the old password back, with the roles and with the configuration.
ROTATE_AGAIN: Final = (
    "First, while no client is let in: the restore brought the database's users back with the passwords of the backup's"
    " instant, and the configuration too. Where one was rotated or revoked since, whoever knows the old one gets in"
    " again. Rotate it again now, try the old one, which must be refused, and take a new backup afterwards:"
)
BY_ROTATION: Final = (
    "# Asks for the new password, and sends a verifier of it only:\n"
    "psql --dbname=postgres --command='\\password <application user>'\n"
    "# Put the same password into the configuration that the services are started with. An old user of two that take\n"
    "# turns is locked instead:\n"
    "psql --dbname=postgres --command='ALTER ROLE \"<old user>\" NOLOGIN'"
)
HOW_TO_READ: Final = (
    "This is the record of drills, not a complete procedure. The commands ran in it, in this order, unless they are"
    " marked as done by hand; servers that the suite started and stopped, access rules and buckets that it made in its"
    " own process, have none. `--no-sync` is the drill's: leave it out in operation. Programs are shown without their"
    " directory. In angle brackets stand places; ports and names of backup sets are that run's. `[redacted]` was a"
    " secret. Variables are named; their values are not kept."
)
LONGEST_REASON: Final = 200
PREFERRED: Final = "total_loss"


def write_runbook(run: FinishedRun) -> str:
    """The runbook as Markdown.

    Raises:
        NothingToShow: no drill of the run passed.
        UsageProblem: the journal lacks what docs/journal.md says.
    """
    try:
        return "\n\n".join(_blocks(run)) + "\n"
    except (KeyError, TypeError) as problem:
        raise UsageProblem(
            str(run.directory / "journal.jsonl"),
            seen=f"lacks something that docs/journal.md says it holds ({problem})",
            remedy="print the runbook with the version of the suite that made the run",
        ) from None


def _blocks(run: FinishedRun) -> Iterator[str]:
    drills = list(drills_of(run))
    procedures = _one_for_each_methods(drills)
    if not procedures:
        raise NothingToShow(
            f"a drill that passed in run {run.directory.name}",
            seen=", ".join(f"{drill.opened['drill']}: {drill.verdict}" for drill in drills),
            remedy=f"see {run.directory / 'report.html'}, and drill again",
        )
    opened = run.events[0]
    yield f"# Restoring the deployment of profile {opened['profile']['name']}"
    yield f"Measured in run `{opened['run_id']}`, {opened['utc'][:19].replace('T', ' ')} UTC. {HOW_TO_READ}"
    disasters = ", ".join(dict.fromkeys(drill.opened["disaster"] for drill in drills))
    yield f"It covers what that run drilled: {disasters}. A run of a selection is followed by a runbook of it only."
    for drill in procedures:
        yield from _procedure(drill)
    yield from _what_was_restored(drills)
    yield from _not_tested(drills)


def _one_for_each_methods(drills: Sequence[Drill]) -> list[Drill]:
    """One drill that passed for each choice of methods: total loss where there is one, else what restored most."""
    chosen: dict[tuple[str, ...], Drill] = {}
    for drill in drills:
        kept = chosen.get(drill.methods)
        if drill.verdict == "passed" and (kept is None or _completeness(drill) > _completeness(kept)):
            chosen[drill.methods] = drill
    return list(chosen.values())


def _completeness(drill: Drill) -> tuple[bool, bool, int, int]:
    # A step that was done twice was provoked: it is no part of a restore that nothing disturbs.
    undisturbed = not any("," in step.name or step.name.endswith(" again") for step in drill.steps)
    return drill.opened["disaster"] == PREFERRED, undisturbed, len(_restored(drill)), len(drill.steps)


def _procedure(drill: Drill) -> Iterator[str]:
    opened, methods = drill.opened, drill.opened["methods"]
    stand_in = ", the reference application in the product's place" if opened["stand_in"] else ""
    programs = ", ".join(f"{name} {version}" for name, version in opened["tools"].items())
    yield f"## Database by {methods['database']}, objects by {methods['objects']}, configuration by" + (
        f" {methods['configuration']}"
    )
    yield "\n".join(
        [
            f"- Deployment: {opened['architecture']}, {opened['provider']}{stand_in}",
            f"- Drilled: {opened['drill']}, disaster {opened['disaster']}",
            f"- Restored in it: {', '.join(_restored(drill)) or 'nothing'}",
            f"- Programs: {programs or 'not noted'}",
            f"- Recovery time: {_recovery_time(drill)} measured, {_target(opened, 'rto')}",
            f"- Recovery point: {drill.recovery_point} measured, {_target(opened, 'rpo')}",
        ]
    )
    for number, step in enumerate(drill.steps, start=1):
        yield f"### {number}. {step.name[0].upper()}{step.name[1:]}: {format_duration(step.took_ns)}"
        if step.name == "start" and "database" in _restored(drill):
            yield ROTATE_AGAIN
            yield _fenced(BY_ROTATION)
        yield from _step(step, methods, attached=opened["provider"] == ATTACHED)


def _restored(drill: Drill) -> list[str]:
    steps = [step.name for step in drill.steps]
    return [component for component in COMPONENTS if f"restore {component}" in steps]


def _target(opened: Event, name: str) -> str:
    objective = opened["objectives"].get(name) or {}
    target = objective.get("target_ns")
    shown = "no target" if target is None else f"target {format_duration(target)}"
    return f"{shown} ({objective['source']})" if objective.get("source") else shown


def _recovery_time(drill: Drill) -> str:
    return "none" if drill.recovery_ns is None else format_duration(drill.recovery_ns)


def _step(step: Step, methods: Mapping[str, str], *, attached: bool) -> Iterator[str]:
    steps, hand = (STEPS_ATTACHED, BY_HAND_ATTACHED) if attached else (STEPS, BY_HAND)
    component = step.name.removeprefix("restore ")
    if component in methods:
        yield f"Bring the {component} back by {methods[component]}."
    if step.name in steps:
        yield steps[step.name]
    if step.seen:
        yield f"Seen: {'; '.join(step.seen)}."
    by_hand = hand.get((component, methods.get(component, "")))
    if by_hand:
        yield "By hand, for what the suite does in its own process:"
        yield _fenced(by_hand)
    for command in step.commands:
        variables = f"; variables {', '.join(command.variables)}" if command.variables else ""
        yield f"Took {format_duration(command.took_ns)}, exit {command.exit}{variables}:"
        yield _fenced(command.line)
    if step.name == "restore database" and methods["database"] in AFTERWARDS:
        yield "By hand afterwards:"
        yield _fenced(AFTERWARDS[methods["database"]])


def _fenced(line: str) -> str:
    return f"```sh\n{line}\n```"


def _what_was_restored(drills: Sequence[Drill]) -> Iterator[str]:
    yield "## What each disaster of that run took, and what was done"
    rows = [
        "| disaster | methods | configuration | database | objects | recovery time | recovery point | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for drill in drills:
        plan, restored = drill.opened.get("plan") or {}, _restored(drill)
        done = (
            str(plan.get(component) or ("restored" if component in restored else "not restored"))
            for component in COMPONENTS
        )
        methods = " + ".join(drill.methods)
        figures = (_recovery_time(drill), drill.recovery_point)
        cells = [drill.opened["disaster"], methods, *done, *figures, drill.verdict]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    yield "\n".join(rows)


def _not_tested(drills: Sequence[Drill]) -> Iterator[str]:
    yield "## What was not tested"
    lines = [f"{what}: {reason}" for drill in drills for what, reason in drill.not_tested]
    if any(drill.opened["stand_in"] for drill in drills):
        lines.append("the product itself: the reference application stood in for it")
    for drill in (drill for drill in drills if drill.verdict != "passed"):
        reason = " ".join(drill.reasons[0].split()) if drill.reasons else "see the run's report"
        shown = reason if len(reason) <= LONGEST_REASON else reason[:LONGEST_REASON] + "…"
        lines.append(f"{drill.opened['drill']} did not pass ({drill.verdict}): {shown}")
    yield "\n".join(f"- {line}" for line in dict.fromkeys(lines or ["nothing that the checks know of"]))
