"""What runs a student's cells and says what their answers come to: one process, started by tools.grade, never imported.

The job comes as JSON on stdin, which is read to its end and closed before any of the student's code runs; so are the
token and the way back, the pipe that was stdout: from then on, what is printed goes to stderr, and no print can pass
for a result. Check functions, the course's classes and every module's functions are put back before each verdict, as
they were before the student's first line.

What remains possible: the student's code and the check run in one process, and code that goes looking for the token (in
frames, in the garbage collector's lists) finds it and can claim a grade. It cannot leave the sandbox with it, nor touch
another student's grade. Whoever grades for marks reads the notebooks of those who surprise.
"""

from __future__ import annotations

import ast
import contextlib
import json
import linecache
import os
import signal
import sys
import time
import types

SECONDS = 20.0  # that one cell may take, as for a check


class TimeUp(BaseException):
    """No Exception, so that a cell's own `except Exception` lets it through."""


def main() -> None:
    job = json.load(sys.stdin)
    channel = os.dup(1)  # not inherited by children
    os.dup2(2, 1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    limit(job["limits"])
    become(job["user"])
    for name in ("HOME", "TMPDIR"):
        if job["sandboxed"]:
            os.environ[name] = "/tmp"
    sys.path.insert(0, job["root"])
    owner, token = os.getpid(), job.pop("token")

    def report(event: str, exercise: str = "", kind: str = "", message: str = "", end=os._exit) -> None:
        if os.getpid() != owner:  # a fork that came back from a cell
            end(1)
        line = json.dumps({"token": token, "event": event, "exercise": exercise, "kind": kind, "message": message})
        os.write(channel, (line + "\n").encode())

    grade(job, report)
    os._exit(0)  # no exit handlers, no waiting for threads that a cell started


def limit(limits: dict[str, int]) -> None:
    """Limits of this process and its children, where the system has them."""
    with contextlib.suppress(ImportError):
        import resource

        for name, value in limits.items():
            _, most = resource.getrlimit(getattr(resource, name))
            value = value if most == resource.RLIM_INFINITY else min(value, most)
            resource.setrlimit(getattr(resource, name), (value, value))


def become(user: int | None) -> None:
    """Go on as a user without rights; for root's processes no limit on their number holds."""
    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)


def grade(job: dict, report) -> None:
    """Run the cells in order, each exercise's and then its check, and report each outcome."""
    with contextlib.suppress(ModuleNotFoundError):  # before the course, which keeps what libraries are at its import
        import torch.nn.functional  # noqa: F401
    import optax  # noqa: F401

    from course import checks

    judges = {one["name"]: getattr(checks, one["name"]) for one in job["exercises"]}
    outcomes = {name: judge.outcome for name, judge in judges.items()}
    run, kept = runner(job.get("seconds", SECONDS), linecache.cache), Kept()
    namespace = {"__name__": "__main__", "__builtins__": __builtins__, "display": lambda *_, **__: None}
    for source in job["given"]:
        run(source, namespace)
    report("ready")
    complaints = [text for source in job["top"] if (text := run(source, namespace))]
    for one in job["exercises"]:
        report("start", one["name"])
        for source in one["given"]:
            run(source, namespace)
        own = [text for source in one["cells"] if (text := run(source, namespace))]
        kept.restore()
        missing = [name for name in one["answers"] if name not in namespace]
        if missing:
            kind, message = ("incorrect" if own else "not attempted"), f"{one['name']}: nothing is called {missing[0]}"
        else:
            try:
                found = outcomes[one["name"]](*(namespace[name] for name in one["answers"]))
                kind, message = str(found.kind), str(found.message)[:4000]
            except BaseException as error:
                kind, message = "incorrect", f"{one['name']}: the check ended with {described(error)}"
        if kind != "correct":
            message = "\n".join([message, *(f"  a cell    {text}" for text in (own + complaints)[:3])])
        report("done", one["name"], kind, message)
    report("end")


def runner(seconds: float, sources: dict):
    """A function that executes a cell's source under a time limit and returns its complaint, or None."""
    numbers = iter(range(1, 10**6))
    begun = {"clock": 0.0, "work": 0.0}

    def over(*_):
        worked = time.process_time() - begun["work"] > seconds / 2  # where the machine is busy, three times as long
        if worked or time.monotonic() - begun["clock"] > 3 * seconds:
            raise TimeUp

    def run(source: str, namespace: dict) -> str | None:
        try:
            name = f"<cell {next(numbers)}>"
            code = compile(plain(source), name, "exec")
            sources[name] = (len(source), None, plain(source).splitlines(True), name)  # inspect.getsource finds it
            begun.update(clock=time.monotonic(), work=time.process_time())
            if hasattr(signal, "SIGALRM"):
                signal.signal(signal.SIGALRM, over)
                signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
            exec(code, namespace)
        except TimeUp:
            return f"stopped after {seconds:.0f} seconds"
        except BaseException as error:  # sys.exit() too
            return described(error)
        finally:
            if hasattr(signal, "SIGALRM"):
                signal.setitimer(signal.ITIMER_REAL, 0)
        return None

    return run


def plain(source: str) -> str:
    """A cell's Python: without IPython's % and ! lines, where it is none with them."""
    try:
        ast.parse(source)
    except (SyntaxError, ValueError):
        lines = source.split("\n")
        return "\n".join(f"pass  # {line}" if line.startswith(("%", "!")) else line for line in lines)
    except (RecursionError, MemoryError):
        pass
    return source


def described(error: BaseException) -> str:
    try:
        text = f"{type(error).__name__}: {error}"
        return text if len(text) < 600 else text[:600] + " …"
    except BaseException:  # its text may fail too
        return f"an error of type {type(error).__name__}"


class Kept:
    """Functions, classes and modules by the names they had, and the insides of the course's own; `restore` them."""

    def __init__(self) -> None:
        solid = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)
        self.modules = [
            (module, {name: value for name, value in vars(module).items() if issubclass(type(value), solid)})
            for module in list(sys.modules.values())
            if isinstance(module, types.ModuleType)
        ]
        own = [module for name, module in sys.modules.items() if name.partition(".")[0] == "course"]
        things = [value for module in own for value in vars(module).values()]
        self.whole = [(module, dict(vars(module))) for module in own]
        classes = [thing for thing in things if isinstance(thing, type) and thing.__module__.startswith("course.")]
        self.classes = [(one, dict(vars(one))) for one in classes]
        functions = [*things, *(part for one in classes for part in vars(one).values())]
        functions += [getattr(thing, "judge", None) for thing in things]
        functions = [one for one in functions if isinstance(one, types.FunctionType)]
        self.code = [(one, one.__code__, one.__defaults__, one.__kwdefaults__) for one in functions]
        self.objects = [(one, dict(vars(one))) for one in things if type(one).__name__ == "Check"]

    def restore(self) -> None:
        for module, names in (*self.modules, *self.whole):
            inside = vars(module)
            for name, value in names.items():
                if inside.get(name) is not value:
                    inside[name] = value
        for one, names in self.classes:
            for name, value in names.items():
                if vars(one).get(name) is not value:
                    with contextlib.suppress(AttributeError, TypeError):
                        setattr(one, name, value)
        for one, code, defaults, keywords in self.code:
            one.__code__, one.__defaults__, one.__kwdefaults__ = code, defaults, keywords
        for one, names in self.objects:
            vars(one).clear()
            vars(one).update(names)


if __name__ == "__main__":
    main()
