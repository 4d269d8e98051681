"""A submission's own .proto files: compiled in its copy, called without generated code.

Names are the student's: a method is found by a word in its name, a field by place and type.
"""

import contextlib
import io
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import grpc
import grpc_tools
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from grpc_tools import protoc

INCLUDED = str(Path(grpc_tools.__file__).parent / "_proto")
INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
}
UNSIGNED = {FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64}
FLOATS = {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}
# What the assignment's own functions answer fits in this; a channel of its own for each server.
CHANNEL_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.initial_reconnect_backoff_ms", 100),
]


class Services:
    """The services that a submission describes."""

    def __init__(self, folder: Path):
        self.methods: list[MethodDescriptor] = []
        self.complaint = ""  # of the compiler
        for proto in sorted(folder.rglob("*.proto")):
            self._generate(proto, folder)
            self._load(proto)

    def _generate(self, proto: Path, folder: Path) -> None:
        """Write fresh stubs beside the .proto file, and over stale ones anywhere in the folder."""
        stubs = [f"{proto.stem}_pb2.py", f"{proto.stem}_pb2_grpc.py"]
        old = [path for name in stubs for path in folder.rglob(name)]
        imports = [found[0] for path in old if (found := _own_import(path, proto.stem))]
        command = [f"-I{proto.parent}", f"-I{INCLUDED}", f"--python_out={proto.parent}"]
        if self._compile([*command, f"--grpc_python_out={proto.parent}", proto.name]):
            return
        made = proto.parent / stubs[1]
        if imports and made.exists():  # the student has put it into a package
            made.write_text(
                made.read_text().replace(_own_import(made, proto.stem)[0], imports[0], 1)
            )
        for path in old:
            if path.parent != proto.parent:
                with contextlib.suppress(OSError):
                    shutil.copy(proto.parent / path.name, path)

    def _compile(self, arguments: list[str]) -> int:
        with contextlib.redirect_stderr(io.StringIO()) as complaint:
            status = protoc.main(["protoc", *arguments])
        self.complaint = self.complaint or complaint.getvalue()
        return status

    def _load(self, proto: Path) -> None:
        described = proto.with_suffix(".described")
        command = [f"-I{proto.parent}", f"-I{INCLUDED}", "--include_imports"]
        if self._compile([*command, f"--descriptor_set_out={described}", proto.name]):
            self.complaint = self.complaint or f"{proto.name} cannot be compiled"
            return
        files = descriptor_pb2.FileDescriptorSet.FromString(described.read_bytes())
        described.unlink()
        pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            pool.Add(file)
        loaded = pool.FindFileByName(proto.name)
        for service in loaded.services_by_name.values():
            self.methods += service.methods

    def find(self, *words: str) -> MethodDescriptor | None:
        """Return the method whose name has one of these words in it; the shortest name wins."""
        for word in words:
            named = [m for m in self.methods if word in m.name.lower().replace("_", "")]
            if named:
                return min(named, key=lambda method: len(method.name))
        return None


def _own_import(path: Path, stem: str) -> re.Match | None:
    form = rf"^(?:from \S+ )?import {re.escape(stem)}_pb2 as \w+$"
    with contextlib.suppress(OSError):
        return re.search(form, path.read_text(errors="replace"), re.M)
    return None


def fill(descriptor, values: Iterable[object]):
    """Return a message with these values in its fields, by order and type."""
    message = message_factory.GetMessageClass(descriptor)()
    left = list(values)
    for field in sorted(descriptor.fields, key=lambda field: field.number):
        for value in left:
            if (fitting := _fitting(field, value)) is not None:
                setattr(message, field.name, fitting)
                left.remove(value)
                break
    return message


def _fitting(field: FieldDescriptor, value: object):
    if _repeated(field):
        return None
    kind = field.cpp_type
    if isinstance(value, str):
        return (
            value
            if kind == FieldDescriptor.CPPTYPE_STRING and field.type != field.TYPE_BYTES
            else None
        )
    if kind in UNSIGNED and value < 0:
        return 0
    if kind in INTEGERS or kind in FLOATS:
        return value
    if kind == FieldDescriptor.CPPTYPE_STRING and field.type != field.TYPE_BYTES:
        return str(value)
    return bool(value) if kind == FieldDescriptor.CPPTYPE_BOOL and value in (True, False) else None


def _repeated(field: FieldDescriptor) -> bool:
    if hasattr(field, "is_repeated"):  # protobuf before version 6 has the label only
        return field.is_repeated
    return field.label == FieldDescriptor.LABEL_REPEATED


def unfold(message) -> list[object]:
    """Return a message's values in the order of its fields; messages as lists of theirs."""
    found = []
    for field in sorted(message.DESCRIPTOR.fields, key=lambda field: field.number):
        value = getattr(message, field.name)
        if _repeated(field):
            is_message = field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE
            found.append([unfold(item) if is_message else item for item in value])
        elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            found.append(unfold(value))
        else:
            found.append(value)
    return found


def flat(values: list) -> list[object]:
    """Return the values without the lists that they are in."""
    return [x for v in values for x in (flat(v) if isinstance(v, list) else [v])]


def path(method: MethodDescriptor) -> str:
    """Return the method's name on the wire."""
    return f"/{method.containing_service.full_name}/{method.name}"


class Caller:
    """A client of a server, through the submission's own descriptions."""

    def __init__(self, address: str):
        self.channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)

    def call(self, method: MethodDescriptor, *values: object, timeout: float = 5.0) -> list[object]:
        """Make a unary call; return the reply's values. Raise grpc.RpcError if there is none."""
        return unfold(
            self._stub("unary_unary", method)(fill(method.input_type, values), timeout=timeout)
        )

    def stream(self, method: MethodDescriptor, requests: Iterator, timeout: float = 20.0):
        """Open a stream of requests; return the iterator of its replies."""
        filled = (fill(method.input_type, [value]) for value in requests)
        return self._stub("stream_stream", method)(filled, timeout=timeout)

    def _stub(self, kind: str, method: MethodDescriptor):
        return getattr(self.channel, kind)(
            path(method),
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )

    def close(self) -> None:
        self.channel.close()
