"""Derive from fastdl.h everything that has to agree with it.

    python generate.py HEADER OUT_DIR LEVEL...

writes into OUT_DIR (the build tree; nothing here is ever committed)

    names.h         #define fdl_relu fdl_relu_f32_v3, ...: one name per dtype and level
    dispatch_table.h  one table of pointers per level, and the public entry points that call through it
    _native.c       the cffi API-mode extension
    _kernels.py     one Python function per kernel: picks the dtype, passes pointers, raises on a status
"""

import re
import sys
from pathlib import Path
from typing import NamedTuple

DTYPES = {"f32": "float", "f64": "double"}


class Parameter(NamedTuple):
    type: str  # "const real *", "int64_t", ...
    name: str
    optional: bool


class Function(NamedTuple):
    returns: str
    name: str
    parameters: list[Parameter]
    kernel: bool  # exists per dtype and per level

    def declaration(self, name: str, real: str) -> str:
        parameters = ", ".join(f"{p.type} {p.name}" for p in self.parameters) or "void"
        return re.sub(r"\breal\b", real, f"{self.returns} {name}({parameters})")


def parse(header: str) -> tuple[str, list[Function]]:
    """Return the plain declarations (enums, structs) as text, and the functions."""
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    text = re.sub(r"^\s*#.*$", "", text, flags=re.M)
    functions = []

    def take(match: re.Match) -> str:
        kernel, returns, name, arguments = match.groups()
        parameters = []
        for argument in arguments.split(","):
            argument = " ".join(argument.split())
            if argument == "void":
                continue
            optional = argument.startswith("FDL_OPTIONAL ")
            type_, parameter = re.fullmatch(r"(.*?[ *])(\w+)", argument.removeprefix("FDL_OPTIONAL ")).groups()
            parameters.append(Parameter(type_.strip(), parameter, optional))
        functions.append(Function(returns.strip(), name, parameters, bool(kernel)))
        return ""

    types = re.sub(r"(FDL_KERNEL\s+)?((?:const\s+)?\w+\s*\*?)\s*\b(fdl_\w+)\(([^)]*)\);", take, text)
    return types.strip(), functions


def names_header(functions: list[Function]) -> str:
    return "".join(f"#define {f.name} FDL_NAME({f.name})\n" for f in functions if f.kernel)


def dispatch_table(functions: list[Function], levels: list[str]) -> str:
    instances = [(f, dtype, real) for f in functions if f.kernel for dtype, real in DTYPES.items()]
    lines = ["typedef struct {"]
    lines += [f"    {f.declaration(f'(*{f.name}_{dtype})', real)};" for f, dtype, real in instances]
    lines += ["} fdl_table;", ""]
    for level in levels:
        lines += [f"{f.declaration(f'{f.name}_{dtype}_{level}', real)};" for f, dtype, real in instances]
        lines += [f"static const fdl_table table_{level} = {{"]
        lines += [f"    {f.name}_{dtype}_{level}," for f, dtype, real in instances]
        lines += ["};", ""]
    rows = ", ".join(f'{{"{level}", &table_{level}}}' for level in levels)
    lines += [
        f"static const struct {{ const char *name; const fdl_table *table; }} levels[] = {{{rows}}};",
        "static const fdl_table *active = 0;",
        "",
    ]
    for f, dtype, real in instances:
        arguments = ", ".join(p.name for p in f.parameters)
        lines += [f"{f.declaration(f'{f.name}_{dtype}', real)};"]
        lines += [f"{f.declaration(f'{f.name}_{dtype}', real)} {{ return active->{f.name}_{dtype}({arguments}); }}"]
    return "\n".join(lines) + "\n"


def cdef(types: str, functions: list[Function]) -> str:
    lines = [types]
    for f in functions:
        if f.kernel:
            lines += [f"{f.declaration(f'{f.name}_{dtype}', real)};" for dtype, real in DTYPES.items()]
        else:
            lines += [f"{f.declaration(f.name, '')};"]
    return "\n".join(lines) + "\n"


def native_source(types: str, functions: list[Function], out: Path) -> None:
    from cffi import FFI

    ffi = FFI()
    declarations = cdef(types, functions)
    # The address of every kernel, for Numba, which links against symbols and not against cffi.
    kernels = [f"{f.name}_{dtype}" for f in functions if f.kernel for dtype in DTYPES]
    address = "int64_t fdl_address(int64_t index);\n"
    ffi.cdef(declarations + address)
    pointers = ", ".join(f"(int64_t)(intptr_t){name}" for name in kernels)
    ffi.set_source(
        "fastdl._native",
        f"#include <stdint.h>\n{declarations}"
        f"static int64_t fdl_address(int64_t index)\n"
        f"{{ const int64_t all[] = {{{pointers}}}; return all[index]; }}\n",
    )
    ffi.emit_c_code(str(out))


PYTHON_HEAD = '''\
"""One function per C kernel. Written by csrc/generate.py from csrc/fastdl.h at build time: do not edit."""

from numpy import dtype, float32

from fastdl._native import ffi, lib
from fastdl._status import raise_status

_F32 = dtype(float32)
_buffer = ffi.from_buffer
_NULL = ffi.NULL
_float, _double, _int64 = ffi.typeof("float[]"), ffi.typeof("double[]"), ffi.typeof("int64_t[]")
_doubles = _double
'''


def python_wrappers(functions: list[Function]) -> str:
    lines = [PYTHON_HEAD]
    kernels = [f for f in functions if f.kernel]
    for f in kernels:
        lines += [f"_{f.name}_f32, _{f.name}_f64 = lib.{f.name}_f32, lib.{f.name}_f64"]
    signatures: dict[str, list[tuple[str, str, bool]]] = {}
    for f in kernels:
        name = f.name.removeprefix("fdl_")
        signatures[name] = [tuple(p) for p in f.parameters]
        dispatch_on = next((p.name for p in f.parameters if "real" in p.type and not p.optional), None)
        if dispatch_on is None:  # no array to take the dtype from
            lines += ["", "", f"{name} = _{f.name}_f32"]
            continue
        body = []
        for real, suffix in (("_float", "f32"), ("_double", "f64")):
            arguments = []
            for p in f.parameters:
                if "*" not in p.type:
                    argument = p.name
                elif "fdl_" in p.type:  # a struct of int64_t: _arrays.struct has made it
                    argument = f"{p.name}.pointer"
                else:
                    item = {"const int64_t *": "_int64", "int64_t *": "_int64", "double *": "_doubles"}.get(
                        p.type, real
                    )
                    argument = f"_buffer({item}, {p.name})"
                    if p.optional:
                        argument = f"_NULL if {p.name} is None or not {p.name}.size else {argument}"
                arguments.append(argument)
            body.append(f"status = _{f.name}_{suffix}({', '.join(arguments)})")
        lines += [
            "",
            "",
            f"def {name}({', '.join(p.name for p in f.parameters)}):",
            f"    if {dispatch_on}.dtype is _F32 or {dispatch_on}.dtype == _F32:",
            f"        {body[0]}",
            "    else:",
            f"        {body[1]}",
            "    if status:",
            "        raise_status(status)",
        ]
    lines += [
        "",
        "",
        "# name: [(C type, parameter, may be NULL), ...]; the order is that of lib.fdl_address",
        f"SIGNATURES = {signatures!r}",
    ]
    return "\n".join(lines) + "\n"


def main(header: str, out_dir: str, *levels: str) -> None:
    types, functions = parse(Path(header).read_text())
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    (out / "names.h").write_text(names_header(functions))
    (out / "dispatch_table.h").write_text(dispatch_table(functions, list(levels)))
    (out / "_kernels.py").write_text(python_wrappers(functions))
    native_source(types, functions, out / "_native.c")


if __name__ == "__main__":
    main(*sys.argv[1:])
