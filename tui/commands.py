"""The command `tradetui`: arguments in, exit code out."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from rich.console import Console

from core.commands.attach import add_remote_flags, remote_place
from core.commands.bench_all import add_bench_all
from core.commands.bench_consensus import add_consensus_benches
from core.commands.bench_timers import add_bench_timers
from core.commands.bench_transport import add_transport_benches
from core.commands.compare import add_compare_command
from core.commands.kernel_commands import add_kernel_bench, add_kernel_commands
from core.commands.keys import add_keys_command
from core.commands.orders import add_order_benchmark, add_order_commands
from core.commands.otlp import add_otlp_command
from core.commands.output_file import output_file
from core.commands.report import add_report_command
from core.commands.sweep import add_sweep_command
from core.commands.watch import add_watch_command
from core.config import ConfigError
from core.live import confirm_live, give_leave
from tui.monitor_command import attach_elsewhere, open_monitor
from tui.settings_flags import add_settings_flags, settings_of

DESCRIPTION = "A terminal monitor for a swarm of trading nodes that agree on every order over QUIC."


def _live_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--live", action="store_true", help="let orders go beyond this machine, after a confirmation")


def _session_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--session", type=Path, metavar="DIR", help="session directory; default: the one that runs")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(prog="tradetui", description=DESCRIPTION)
    add_settings_flags(parser)
    _session_flag(parser)
    _live_flag(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_swarm_commands(commands)
    _add_benches(commands)
    _add_sitting_commands(commands)
    _add_simulation(commands)
    _add_operator_commands(commands)
    add_keys_command(commands)
    add_order_commands(commands)
    add_kernel_commands(commands)
    add_report_command(commands)
    add_watch_command(commands)
    add_otlp_command(commands)
    add_sweep_command(commands)
    add_compare_command(commands)
    doctor = commands.add_parser("doctor", help="check environment, ports, data, clock and kernels")
    doctor.add_argument("--warm", action="store_true", help="compile every kernel now, and check nothing else")
    add_settings_flags(doctor)
    return parser


_Commands = argparse._SubParsersAction


def _add_swarm_commands(commands: _Commands[argparse.ArgumentParser]) -> None:
    run = commands.add_parser("run", help="trade without a screen and write what it took")
    run.add_argument("--cycles", type=int, required=True, metavar="N")
    run.add_argument("--json", type=output_file, metavar="FILE")
    add_settings_flags(run)
    _session_flag(run)
    _live_flag(run)
    for name, text in (("attach", "open the monitor on a running swarm"), ("stop", "stop a running swarm")):
        attached = commands.add_parser(name, help=text)
        _session_flag(attached)
        if name == "attach":
            _live_flag(attached)
            attached.add_argument("--read-only", action="store_true", help="look on; change nothing")
            add_remote_flags(attached)
    node = commands.add_parser("node", help="one node process of a session")
    node.add_argument("--id", type=int, required=True)
    _session_flag(node)
    _listen_flag(node)


def _listen_flag(process: argparse.ArgumentParser) -> None:
    process.add_argument("--listen", metavar="HOST:PORT", help="needed to listen on another address than loopback")


def _add_benches(commands: _Commands[argparse.ArgumentParser]) -> None:
    bench = commands.add_parser("bench", help="measure the product's parts on this machine")
    subjects = bench.add_subparsers(dest="subject", metavar="SUBJECT", required=True)
    add_bench_all(subjects)
    add_bench_timers(subjects)
    add_consensus_benches(subjects)
    add_kernel_bench(subjects)
    add_transport_benches(subjects)
    add_order_benchmark(subjects)
    monitor = subjects.add_parser("monitor", help="what the attached monitor costs, interleaved with headless")
    monitor.add_argument("--replicates", type=int, default=6, help="of headless, monitor, monitor, headless; 6 up")
    monitor.add_argument("--recorder", action="store_true", help="instead: what recording costs, on and off in turn")
    monitor.add_argument("--soak-s", type=float, default=0.0, metavar="S", help="instead: attached for so long")
    monitor.add_argument("--seconds", type=float, default=10.0, help="of each segment")
    monitor.add_argument("--json", type=output_file, metavar="FILE")
    add_settings_flags(monitor)


def _add_sitting_commands(commands: _Commands[argparse.ArgumentParser]) -> None:
    experiment = commands.add_parser("experiment", help="interleaved A/B experiments, without a screen")
    experiment.add_argument("keys", nargs="+", metavar="KEYS", help="toggle keys: b, or bp for a factorial design; aa")
    experiment.add_argument("--json", type=output_file, metavar="FILE")
    experiment.add_argument("--replicates", type=int, metavar="N", help="at most, of each experiment")
    experiment.add_argument("--attach", action="store_true", help="on the running swarm, not on one of its own")
    add_settings_flags(experiment)
    _session_flag(experiment)
    served = commands.add_parser("serve", help="the monitor of a running swarm in a browser")
    served.add_argument("--host", default="127.0.0.1")
    served.add_argument("--port", type=int, default=8000)
    served.add_argument("--control", action="store_true", help="let pages change the swarm; there is no log-in")
    _session_flag(served)
    replay = commands.add_parser("replay", help="open the monitor on a recording")
    replay.add_argument("file", type=Path, metavar="FILE", help="recording.duckdb, or a session directory")
    replay.add_argument("--speed", type=float, default=1.0, metavar="X", help="times as fast; 0 stands still")
    replay.add_argument("--cycle", type=int, metavar="N", help="start at the end of this cycle")
    replay.add_argument("--csv", type=Path, metavar="OUT", help="no screen: write the spans as of --cycle, or the end")
    export = commands.add_parser("export", help="a recording as Parquet files")
    export.add_argument("file", type=Path, metavar="FILE", help="recording.duckdb, or a session directory")
    export.add_argument("directory", type=Path, metavar="DIR")


def _add_simulation(commands: _Commands[argparse.ArgumentParser]) -> None:
    sim = commands.add_parser("sim", help="consensus under simulated faults, checked after every event")
    sim.add_argument("--seeds", type=int, default=200, metavar="N")
    sim.add_argument("--first", type=int, default=0, metavar="SEED")
    sim.add_argument("--family", choices=("raft", "reads", "bft", "auto", "switching", "members", "all"), default="all")
    sim.add_argument("--events", type=int, default=2_000, help="of each seed, at least")
    sim.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    sim.add_argument("--json", type=output_file, metavar="FILE")
    sim.add_argument("--replay", type=int, metavar="SEED", help="one seed of --kind, line by line")
    sim.add_argument("--kind", default="raft, n = 4", help='as in the table, such as "bft, n = 4, one liar"')


def _add_operator_commands(commands: _Commands[argparse.ArgumentParser]) -> None:
    limits = commands.add_parser("limits", help="show the limits of a running swarm; change them while it trades")
    limits.add_argument("changes", nargs="*", metavar="NAME=VALUE", help="in quote currency, price_band_bps in bps")
    _session_flag(limits)
    limits.set_defaults(run=_limits)
    members = commands.add_parser("members", help="show who votes; admit and remove nodes while the swarm trades")
    actions = members.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in (("show", "every member"), ("add", "start a further node and give it a vote")):
        _session_flag(actions.add_parser(name, help=text))
    remove = actions.add_parser("remove", help="take a node out and end its process")
    remove.add_argument("--id", type=int, required=True)
    _session_flag(remove)
    gateway = commands.add_parser("gateway", help="the gateway process of a session")
    _session_flag(gateway)
    _live_flag(gateway)
    _listen_flag(gateway)
    _session_flag(commands.add_parser("venue", help="the venue process of a session"))


def main() -> None:
    """Entry point of the script `tradetui`."""
    from core.market.errors import MarketDataError
    from core.recording import RecordingError
    from core.session import SessionError

    console = Console(stderr=True)
    parser = build_parser()
    arguments = parser.parse_args()
    try:
        code = _dispatch(arguments, console)
    except (ConfigError, MarketDataError, RecordingError, SessionError) as error:
        console.print(f"tradetui: {error}", style="bold red", markup=False, highlight=False)
        code = 2
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _dispatch(arguments: argparse.Namespace, console: Console) -> int:
    if hasattr(arguments, "run"):
        return int(arguments.run(arguments, console))
    command = arguments.command
    if command == "run":
        from core.commands.run import run_cycles
        from core.commands.start import check_data

        if arguments.cycles < 1:
            raise ConfigError(f"--cycles {arguments.cycles}: want at least 1")
        settings = settings_of(arguments)
        check_data(settings)
        confirm_live(settings, arguments.live)
        live = arguments.live
        asyncio.run(run_cycles(settings, arguments.cycles, arguments.json, arguments.session, console, live=live))
        return 0
    if command == "doctor":
        from core.commands.doctor import doctor, warm

        if arguments.warm:
            warm(console)
            return 0
        return 0 if doctor(settings_of(arguments), console) else 1
    if command == "stop":
        return _stop(arguments, console)
    if command == "experiment":
        return _experiment(arguments, console)
    if command == "bench":
        return _bench_monitor(arguments, console)
    if command == "serve":
        from core.session import find_session
        from tui.serve import serve

        session = find_session(arguments.session)
        if not arguments.control:  # a page that only looks on does not start it
            session.must_run()
        serve(session, arguments.host, arguments.port, control=arguments.control, console=console)
        return 0
    if command == "replay":
        return _replay(arguments)
    if command == "export":
        from core.commands.export import export_recording

        export_recording(arguments.file, arguments.directory, console)
        return 0
    if command == "sim":
        return _simulate(arguments, console)
    if command == "members":
        return _members(arguments, console)
    if command in ("node", "gateway", "venue"):
        from core.process import run_process
        from core.session import find_session

        name = f"node-{arguments.id}" if command == "node" else command
        session = find_session(arguments.session)
        if command == "gateway":
            confirm_live(session.settings(), arguments.live)
            give_leave(session, session.settings(), arguments.live)
        run_process(name, session, owned=False, listen=getattr(arguments, "listen", None))
        return 0
    place = remote_place(arguments) if command == "attach" else None
    if place is not None:
        return attach_elsewhere(place, arguments.read_only, console)
    return open_monitor(arguments, console)


def _stop(arguments: argparse.Namespace, console: Console) -> int:
    from core.attach import stop_session
    from core.session import find_session

    session = find_session(arguments.session)
    stopped = asyncio.run(stop_session(session))
    console.print(f"{session.directory.name}: {'stopped' if stopped else 'was not running'}")
    return 0


def _bench_monitor(arguments: argparse.Namespace, console: Console) -> int:
    from core.bench.rows import ROUNDS_MIN

    settings = settings_of(arguments)
    if arguments.soak_s:
        from core.bench.monitor import soak_monitor

        asyncio.run(soak_monitor(settings, arguments.soak_s, arguments.json, console))
        return 0
    if arguments.replicates < ROUNDS_MIN:
        raise ConfigError(f"--replicates {arguments.replicates}: want {ROUNDS_MIN} or more for an interval")
    if arguments.recorder:
        from core.bench.recorder import bench_recorder as measure
    else:
        from core.bench.monitor import bench_monitor as measure
    asyncio.run(measure(settings, arguments.replicates, arguments.seconds, arguments.json, console))
    return 0


def _experiment(arguments: argparse.Namespace, console: Console) -> int:
    from core.commands.experiment import run_experiments
    from core.session import find_session

    session = find_session(arguments.session) if arguments.attach or arguments.session else None
    settings = session.settings() if session is not None else settings_of(arguments)
    try:
        asyncio.run(run_experiments(settings, session, arguments.keys, arguments.replicates, arguments.json, console))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return 0


def _replay(arguments: argparse.Namespace) -> int:
    from core.commands.export import recording_of
    from core.recording import Recording
    from core.replay import Replay, write_csv
    from tui.app import MonitorApp

    if arguments.speed < 0:
        raise ConfigError(f"--speed {arguments.speed:g}: want 0 or more")
    client = Replay(Recording(recording_of(arguments.file), read_only=True), arguments.speed)
    if arguments.csv is not None:
        write_csv(client, arguments.cycle, arguments.csv)
        return 0
    if arguments.cycle is not None:
        client.seek_to_cycle(arguments.cycle)
    MonitorApp(client, clock_ns=lambda: client.now_ns).run()
    return 0


def _simulate(arguments: argparse.Namespace, console: Console) -> int:
    from core.commands.sim import replay, simulate
    from net.simulation.families import KINDS

    if arguments.replay is not None:
        if arguments.kind not in KINDS:
            raise ConfigError(f"--kind {arguments.kind!r}: known are {', '.join(map(repr, KINDS))}")
        return 0 if replay(arguments.kind, arguments.replay, arguments.events, console) else 1
    if min(arguments.seeds, arguments.jobs) < 1:
        raise ConfigError("--seeds and --jobs must be at least 1")
    sound = simulate(
        arguments.family,
        arguments.seeds,
        arguments.first,
        arguments.events,
        arguments.jobs,
        arguments.json,
        console,
    )
    return 0 if sound else 1


def _limits(arguments: argparse.Namespace, console: Console) -> int:
    from core.commands.limits import parse_changes, set_limits, show_limits
    from core.session import find_session

    session = find_session(arguments.session)
    if arguments.changes:
        asyncio.run(set_limits(session, parse_changes(arguments.changes), console))
    else:
        asyncio.run(show_limits(session, console))
    return 0


def _members(arguments: argparse.Namespace, console: Console) -> int:
    from core.commands.members import add_node, remove_node, show_members
    from core.session import find_session

    session = find_session(arguments.session)
    if arguments.action == "add":
        asyncio.run(add_node(session, console))
    elif arguments.action == "remove":
        asyncio.run(remove_node(session, arguments.id, console))
    else:
        asyncio.run(show_members(session, console))
    return 0


if __name__ == "__main__":
    main()
