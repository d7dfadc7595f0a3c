"""The process that runs one Python function of the user; started by `function`.

The protocol is frames over a socket, whose descriptor is in the settings: eight bytes of length,
then the class of a fault (empty: none), a line feed, and the text. The first frame is the
function's signature, or why it cannot be a tool; then each frame of arguments gets one frame back.

Standard input and output are not used, and the function's children do not inherit the socket. This
module imports little, so that a limit on memory can be small.
"""

import asyncio
import ctypes
import faulthandler
import importlib
import inspect
import json
import operator
import os
import resource
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Awaitable, Callable
from io import BufferedIOBase
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import to_json

LENGTH = struct.Struct(">Q")
_MAX_FAULT_CHARACTERS = 500
_PR_SET_PDEATHSIG = 1
_FAULTS = {
    "missing": ("missing_argument", "argument {where} is missing"),
    "extra_forbidden": ("extra_argument", "there is no argument {where}"),
    "json_invalid": ("bad_json", "{what}"),
}


class _Unusable(Exception):
    """The function cannot be a tool; the message says why, with the remedy."""


class _PlainSchema(GenerateJsonSchema):
    """Omits the titles of fields, which only repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


class Function:
    """A function with a model of its arguments, made from its type hints."""

    def __init__(self, path: str):
        self._function = _load(path)
        signature = inspect.signature(self._function, eval_str=True)
        self._names = list(signature.parameters)
        # Fields are numbered, since an argument may be called `schema` or `_x`.
        fields: dict[str, Any] = {
            f"field_{n}": _field(one) for n, one in enumerate(signature.parameters.values())
        }
        config = ConfigDict(extra="forbid")
        self._arguments: type[BaseModel] = create_model("Arguments", __config__=config, **fields)

    def signature(self) -> dict[str, Any]:
        schema = self._arguments.model_json_schema(schema_generator=_PlainSchema)
        del schema["title"]
        return {
            "name": getattr(self._function, "__name__", type(self._function).__name__),
            "description": inspect.getdoc(self._function) or "",
            "schema": {"properties": {}} | schema,
        }

    def answer(self, arguments: bytes, runner: asyncio.Runner) -> tuple[str, str]:
        """Returns the class of the fault, if any, and the text."""
        try:
            checked = self._arguments.model_validate_json(arguments, strict=True)
        except ValidationError as error:
            return _wrong(error)
        values = {name: getattr(checked, f"field_{n}") for n, name in enumerate(self._names)}
        try:
            value = self._function(**values)
            if inspect.isawaitable(value):
                value = runner.run(_awaited(value))
        except BaseException as error:  # SystemExit too: only this call ends
            return "server_error", _first_line(error)
        try:
            text = value if isinstance(value, str) else to_json(value, inf_nan_mode="strings")
        except Exception as error:
            return "bad_reply", f"{type(value).__name__} is not JSON: {_first_line(error)}"
        return "", text if isinstance(text, str) else text.decode()


def _first_line(error: BaseException) -> str:
    line, *_ = traceback.format_exception_only(error)[-1].splitlines()
    return line[:_MAX_FAULT_CHARACTERS]


def _load(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    try:
        function = operator.attrgetter(name)(importlib.import_module(module))
    except AttributeError as error:
        raise _Unusable(f"{_first_line(error)}; correct the name after the colon") from None
    except ModuleNotFoundError as error:
        raise _Unusable(f"{_first_line(error)}; correct the path, or set PYTHONPATH") from None
    if not callable(function):
        raise _Unusable(f"{name} is a {type(function).__name__}; name a function")
    return function


def _field(parameter: inspect.Parameter) -> tuple[Any, Any]:
    name = parameter.name
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise _Unusable(f"argument {name} cannot be given by name; make it an ordinary one")
    if parameter.annotation is parameter.empty:
        raise _Unusable(f"argument {name} has no type hint; add one")
    default = ... if parameter.default is parameter.empty else parameter.default
    return parameter.annotation, Field(default, alias=name)


def _wrong(error: ValidationError) -> tuple[str, str]:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    kind, text = _FAULTS.get(first["type"], ("wrong_type", "argument {where}: {what}"))
    return kind, text.format(where=".".join(map(str, first["loc"])), what=first["msg"])


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


def receive(stream: BufferedIOBase) -> bytes | None:
    """Returns one frame; None if the other side has closed."""
    header = stream.read(LENGTH.size)
    return stream.read(*LENGTH.unpack(header)) if len(header) == LENGTH.size else None


def _send(stream: BufferedIOBase, fault: str, text: str) -> None:
    payload = f"{fault}\n{text}".encode("utf-8", "surrogatepass")
    stream.write(LENGTH.pack(len(payload)) + payload)
    stream.flush()


def _serve(stream: BufferedIOBase, path: str, reply_characters: int) -> None:
    try:
        function = Function(path)
        signature = json.dumps(function.signature())
    except _Unusable as error:
        return _send(stream, "rejected", str(error))
    except PydanticUserError as error:
        line = f"{_first_line(error)}; use hints that JSON can hold"
        return _send(stream, "rejected", line)
    except BaseException as error:
        return _send(stream, "rejected", f"its import fails: {_first_line(error)}; correct it")
    _send(stream, "", signature)
    with asyncio.Runner() as runner:
        while (arguments := receive(stream)) is not None:
            fault, text = function.answer(arguments, runner)
            if len(text) > reply_characters:
                fault, text = "bad_reply", f"answered with {len(text)} characters, too many"
            _send(stream, fault, text)


def _die_with_parent() -> None:
    """Ends this process with its parent, even if a hanging function blocks reading the socket."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    settings = json.loads(sys.argv[1])
    faulthandler.enable()  # a crash in native code prints its traceback
    _die_with_parent()
    os.set_inheritable(settings["socket"], False)
    if settings["memory_mib"] is not None:
        bytes_most = settings["memory_mib"] * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (bytes_most, bytes_most))
    with socket.socket(fileno=settings["socket"]) as channel, channel.makefile("rwb") as stream:
        _serve(stream, settings["path"], settings["reply_characters"])


if __name__ == "__main__":
    main()
