"""Derive from fastdl.h everything that has to agree with it.

    python generate.py HEADER OUT_DIR LEVEL...

writes into OUT_DIR (the build tree; nothing here is ever committed), without levels only the last two,

    names.h         #define fdl_relu fdl_relu_f32_v3, ...: one name per dtype and level
    dispatch_table.h  one table of pointers per level, and the public entry points that call through it
    _native.c       the cffi API-mode extension
    call_table.h    one Python function per kernel: picks the dtype, passes pointers, raises on a status, or has the
                    call noted that a program records
    program_table.h one function per kernel and dtype that takes its arguments from slots of 8 bytes
    _kernels.py     those functions by name, and the signatures; enums as constants and tuples of names, structs as
                    named tuples, statuses as exceptions
    _kernels.pyi    the types of all that
"""

import re
import sys
from pathlib import Path
from typing import NamedTuple

DTYPES = {"f32": "float", "f64": "double"}
PYTHON_TYPES = {"int64_t": "int", "double": "float"}
NUMPY_TYPES = {"real": "a.real", "double": "NPY_DOUBLE", "int64_t": "NPY_INT64", "uint8_t": "NPY_BOOL"}
"""In C, the number of the dtype of an array whose elements are these."""


class Parameter(NamedTuple):
    type: str  # "const real *", "int64_t", ...
    name: str
    optional: bool


class Function(NamedTuple):
    returns: str
    name: str
    parameters: list[Parameter]
    kernel: bool  # exists per dtype and per level

    @property
    def over_arrays(self) -> bool:
        """Whether it takes an array, which says the dtype."""
        return self.kernel and any("real" in p.type and not p.optional for p in self.parameters)

    @property
    def answers(self) -> bool:
        """Whether all that it writes are sizes and plans, which Python goes on from: it runs while others are noted."""
        written = [p.type for p in self.parameters if p.type.endswith("*") and not p.type.startswith("const ")]
        return bool(written) and all(type_ == "int64_t *" for type_ in written) and self.over_arrays

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


def enums(types: str) -> dict[str, dict[str, int]]:
    """{"REDUCTION": {"NONE": 0, "MEAN": 1, ...}, ...} of FDL_REDUCTION_NONE and so on."""
    found: dict[str, dict[str, int]] = {}
    for body in re.findall(r"\benum\s*\{(.*?)\}", types, flags=re.S):
        value = -1
        if "FDL_OK" in body:  # the statuses
            continue
        for member in filter(None, map(str.strip, body.split(","))):
            name, _, given = (part.strip() for part in member.partition("="))
            value = int(given) if given else value + 1
            group, _, rest = name.removeprefix("FDL_").partition("_")
            found.setdefault(group, {})[rest] = value
    return found


def structs(types: str) -> dict[str, list[tuple[str, str]]]:
    """{"fdl_window": [("int64_t", "batch"), ...], ...}"""
    return {
        name: [
            (type_, field.strip())
            for type_, fields in re.findall(r"(\w+)\s+([^;]+);", body)
            for field in fields.split(",")
        ]
        for body, name in re.findall(r"typedef struct\s*\{(.*?)\}\s*(\w+);", types, flags=re.S)
    }


def statuses(header: str) -> dict[int, tuple[str, str]]:
    """{1: ("MemoryError", "..."), ...}, from the comments."""
    found = re.findall(r"/\* (\w+Error): (.*?) \*/\s*FDL_\w+ = (\d+),", header)
    return {int(code): (kind, message) for kind, message, code in found}


def python_name(struct: str) -> str:
    return struct.removeprefix("fdl_").title().replace("_", "")


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


def declarations(functions: list[Function]) -> str:
    lines: list[str] = []
    for f in functions:
        if f.kernel:
            lines += [f"{f.declaration(f'{f.name}_{dtype}', real)};" for dtype, real in DTYPES.items()]
        else:
            lines += [f"{f.declaration(f.name, '')};"]
    return "\n".join(lines) + "\n"


def native_source(types: str, functions: list[Function], out: Path) -> None:
    """What cffi is for: all but the kernels over arrays, which call.c has."""
    from cffi import FFI

    ffi = FFI()
    # The address of every kernel, for Numba, which links against symbols and not against cffi.
    kernels = [f"{f.name}_{dtype}" for f in functions if f.kernel for dtype in DTYPES]
    address = "int64_t fdl_address(int64_t index);\n"
    ffi.cdef(types + declarations([f for f in functions if not f.over_arrays]) + address)
    pointers = ", ".join(f"(int64_t)(intptr_t){name}" for name in kernels)
    ffi.set_source(
        "fastdl._native",
        f"#include <stdint.h>\n{types}\n{declarations(functions)}"
        f"static int64_t fdl_address(int64_t index)\n"
        f"{{ const int64_t all[] = {{{pointers}}}; return all[index]; }}\n",
    )
    ffi.emit_c_code(str(out))


def call_table(functions: list[Function]) -> str:
    """For call.c: one function a kernel that takes its arguments from Python, and the rows of them."""
    lines: list[str] = []
    rows = ["#define CALL_TABLE \\"]
    for f in functions:
        if not f.over_arrays:
            continue
        name = f.name.removeprefix("fdl_")
        dtype_of = next(i for i, p in enumerate(f.parameters) if "real" in p.type and not p.optional)
        names = ", ".join(f'"{p.name}"' for p in f.parameters)
        lines += [
            f"static PyObject *call_{name}(PyObject *self, PyObject *const *given, Py_ssize_t count)",
            "{",
            "    (void)self;",
            f"    static const char *const names[] = {{{names}}};",
            f'    arguments a = take_arguments("{name}", names, given, count, {len(f.parameters)}, {dtype_of});',
        ]
        passed = []
        for i, p in enumerate(f.parameters):
            local = f"p_{p.name}"  # no kernel's parameter can then be one of the names above
            c_type = p.type.removeprefix("const ").removesuffix(" *")
            if c_type.startswith("fdl_"):  # a struct of int64_t
                lines += [
                    f"    {c_type} {local};",
                    f"    take_struct(&a, {i}, (int64_t *)&{local}, sizeof {local} / sizeof(int64_t));",
                ]
                passed += [f"&{local}"]
                continue
            passed += [local]
            if "*" in p.type:
                dtype = NUMPY_TYPES[c_type]
                flags = f"{int('const' not in p.type)}, {int(p.optional)}"
                take = "take_strided" if p.name.startswith("strided") else "take_array"
                lines += [f"    void *{local} = {take}(&a, {i}, {dtype}, {flags});"]
            else:
                take = "take_number" if c_type == "double" else "take_integer"
                lines += [f"    const {c_type} {local} = {take}(&a, {i});"]
        arguments = ", ".join(passed)
        lines += [
            "    if (a.failed)",
            "        return NULL;",
            f"    PyObject *instead = {'backend_in_use' if f.answers else 'diversion'}();",
            "    if (instead)",
            "        return divert(instead, &a, count);",
            "    PyThreadState *others = let_others_run(&a);",
            f"    const int status = a.real == NPY_FLOAT ? {f.name}_f32({arguments})",
            f"                                           : {f.name}_f64({arguments});",
            "    return end_call(others, status);",
            "}",
            "",
        ]
        doc = f"{name}({', '.join(p.name for p in f.parameters)}, /)\\n--\\n\\n"
        rows += [f'    {{"{name}", (PyCFunction)(void (*)(void))call_{name}, METH_FASTCALL, "{doc}"}}, \\']
    return "\n".join([declarations(functions), *lines, *rows]) + "\n\n"


def program_table(functions: list[Function]) -> str:
    """For program.c: each kernel as a function of slots, in the order of fdl_address."""
    lines: list[str] = [declarations(functions)]
    rows = []
    for f in functions:
        for dtype in DTYPES if f.kernel else ():
            if f.returns != "int":
                rows += ["    NULL,"]
                continue
            arguments = ", ".join(
                f"s[{i}].{'p' if p.type.endswith('*') else 'd' if p.type == 'double' else 'i'}"
                for i, p in enumerate(f.parameters)
            )
            name = f"slots_{f.name.removeprefix('fdl_')}_{dtype}"
            lines += [f"static int {name}(const slot *s) {{ return {f.name}_{dtype}({arguments}); }}"]
            rows += [f"    {name},"]
    return "\n".join([*lines, "static kernel_of_slots *const kernels_of_slots[] = {", *rows, "};"]) + "\n"


def python_names(header: str, types: str, functions: list[Function]) -> str:
    kernels = [f for f in functions if f.kernel]
    short = {f.name: f.name.removeprefix("fdl_") for f in kernels}
    signatures = {short[f.name]: [tuple(p) for p in f.parameters] for f in kernels}
    lines = [
        '"""The kernels, and what fastdl.h declares with them. Written by csrc/binding/generate.py: do not edit."""',
        "",
        "from typing import NamedTuple",
        "",
        f"from fastdl._call import {', '.join(short[f.name] for f in kernels if f.over_arrays)}",
        "from fastdl._native import lib",
        "",
        *(f"{short[f.name]} = lib.{f.name}_f32" for f in kernels if not f.over_arrays),
        "",
        *declared(types),
        "",
        "def raise_status(status):",
        '    """Raise what a status other than FDL_OK means."""',
    ]
    for code, (kind, message) in statuses(header).items():
        lines += [f"    if status == {code}:", f"        raise {kind}({message!r})"]
    lines += [
        '    raise SystemError("a status that fastdl.h does not have")',
        "",
        "",
        "# name: [(C type, parameter, may be NULL), ...]; the order is that of lib.fdl_address",
        f"SIGNATURES = {signatures!r}",
    ]
    return "\n".join(lines) + "\n"


def declared(types: str) -> list[str]:
    """Enums as constants, with a tuple of names where they count from 0; structs as named tuples."""
    lines = []
    for group, members in enums(types).items():
        lines += [f"{group}_{name}: int = {value}" for name, value in members.items()]
        if list(members.values()) == list(range(len(members))):
            lines += [f"{group}_NAMES: tuple[str, ...] = {tuple(map(str.lower, members))!r}"]
        lines += [""]
    for struct, fields in structs(types).items():
        lines += ["", f"class {python_name(struct)}(NamedTuple):", f'    """The fields of {struct}, in order."""', ""]
        lines += [f"    {field}: {PYTHON_TYPES[type_]}" for type_, field in fields] + [""]
    return lines


def stub(types: str, functions: list[Function]) -> str:
    lines = [
        "from typing import Any, NamedTuple, NoReturn",
        "",
        "import numpy as np",
        "",
        "Array = np.ndarray[Any, Any]",
        "",
        *declared(types),
        "",
    ]
    for f in functions:
        if not f.kernel:
            continue
        parameters = []
        for p in f.parameters:
            c_type = p.type.removeprefix("const ").removesuffix(" *")
            type_ = python_name(c_type) if c_type.startswith("fdl_") else PYTHON_TYPES.get(p.type, "Array")
            parameters += [f"{p.name}: {type_}{' | None' if p.optional else ''}"]
        name = f.name.removeprefix("fdl_")
        lines += [f"def {name}({', '.join([*parameters, '/'])}) -> None: ..." if f.over_arrays else f"{name}: Any"]
    lines += ["def raise_status(status: int) -> NoReturn: ...", ""]
    lines += ["SIGNATURES: dict[str, list[tuple[str, str, bool]]]"]
    return "\n".join(lines) + "\n"


def main(header: str, out_dir: str, *levels: str) -> None:
    text = Path(header).read_text()
    types, functions = parse(text)
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    (out / "_kernels.py").write_text(python_names(text, types, functions))
    (out / "_kernels.pyi").write_text(stub(types, functions))
    if not levels:
        return
    (out / "names.h").write_text(names_header(functions))
    (out / "dispatch_table.h").write_text(dispatch_table(functions, list(levels)))
    (out / "call_table.h").write_text(call_table(functions))
    (out / "program_table.h").write_text(program_table(functions))
    native_source(types, functions, out / "_native.c")


if __name__ == "__main__":
    main(*sys.argv[1:])
