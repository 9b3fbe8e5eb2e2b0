/* The way in from Python that costs little: a second module, fastdl._call, in the same library as cffi's fastdl._native,
 * of plain functions over NumPy arrays. In it are
 *
 *   kernels       one function for each (generated, call_table.h): takes arrays, numbers and a struct as a tuple, picks
 *                 the dtype, raises on a status, and lets other Python threads run if the work is worth it
 *   shortcut(f)   the verb f of fastdl/_arrays.py with its common case, arguments that are right already, answered here;
 *                 everything else, mistakes above all, is left to f, which is complete by itself
 *   remember(f)   f, computed once for each combination of arguments
 *
 * Only the stable ABI of Python 3.10 and NumPy's C API are used. */
#define NPY_NO_DEPRECATED_API NPY_1_25_API_VERSION
#define NPY_TARGET_VERSION NPY_1_25_API_VERSION
#include <Python.h>
#include <numpy/arrayobject.h>
#include <stdbool.h>
#include <string.h>

#include "fastdl.h"

/* ---- arguments of a kernel, one after the other; after a mistake the rest are zeros ---- */

/* Below this much work, elements or iterations, a kernel ends sooner than another thread would have started. */
enum { WORTH_RELEASING = 4096 };

typedef struct {
    const char *name;
    PyObject *const *given;
    int real; /* NumPy's number of the dtype */
    bool failed;
    int64_t work;
} arguments;

static void *fail(arguments *a, int i, const char *expected)
{
    if (!a->failed)
        PyErr_Format(PyExc_TypeError, "%s: argument %d is not %s", a->name, i, expected);
    a->failed = true;
    return NULL;
}

static arguments take_arguments(const char *name, PyObject *const *given, Py_ssize_t count, Py_ssize_t expected,
                                int dtype_of)
{
    arguments a = {name, given, NPY_FLOAT, false, 0};
    if (count != expected) {
        PyErr_Format(PyExc_TypeError, "%s: found %zd arguments, expected %zd", name, count, expected);
        a.failed = true;
    } else if (!PyArray_Check(given[dtype_of])) {
        fail(&a, dtype_of, "an array");
    } else if (PyArray_TYPE((PyArrayObject *)given[dtype_of]) != NPY_FLOAT) {
        a.real = NPY_DOUBLE;
    }
    return a;
}

static bool is_int64(int type) { return type == NPY_INT64 || (NPY_SIZEOF_LONGLONG == 8 && type == NPY_LONGLONG); }

/* The elements of an array; optional: NULL for None and for an array without elements. */
static void *take_array(arguments *a, int i, int type, bool written, bool optional)
{
    if (a->failed || (optional && a->given[i] == Py_None))
        return NULL;
    PyArrayObject *array = (PyArrayObject *)a->given[i];
    if (!PyArray_Check(a->given[i]) || !PyArray_IS_C_CONTIGUOUS(array) || PyArray_ISBYTESWAPPED(array) ||
        (written && !PyArray_ISWRITEABLE(array)) ||
        (type == NPY_INT64 ? !is_int64(PyArray_TYPE(array)) : PyArray_TYPE(array) != type))
        return fail(a, i, "a C-contiguous array of the dtype that the kernel takes");
    const int64_t size = PyArray_SIZE(array);
    a->work += size;
    return optional && size == 0 ? NULL : PyArray_DATA(array);
}

static int64_t take_integer(arguments *a, int i)
{
    const int64_t value = a->failed ? 0 : PyLong_AsLongLong(a->given[i]);
    a->failed = a->failed || (value == -1 && PyErr_Occurred());
    a->work = value > a->work ? value : a->work;
    return value;
}

static double take_number(arguments *a, int i)
{
    const double value = a->failed ? 0 : PyFloat_AsDouble(a->given[i]);
    a->failed = a->failed || (value == -1 && PyErr_Occurred());
    return value;
}

/* A struct of int64_t from the tuple of its fields. */
static void take_struct(arguments *a, int i, int64_t *fields, Py_ssize_t count)
{
    if (a->failed || !PyTuple_Check(a->given[i]) || PyTuple_Size(a->given[i]) != count) {
        fail(a, i, "a tuple of the struct's fields");
        return;
    }
    for (Py_ssize_t f = 0; f < count; f++) {
        fields[f] = PyLong_AsLongLong(PyTuple_GetItem(a->given[i], f));
        if (fields[f] == -1 && PyErr_Occurred()) {
            a->failed = true;
            return;
        }
    }
}

static PyThreadState *let_others_run(const arguments *a)
{
    return a->work >= WORTH_RELEASING ? PyEval_SaveThread() : NULL;
}

static PyObject *end_call(PyThreadState *others, int status)
{
    if (others)
        PyEval_RestoreThread(others);
    if (status == FDL_OK)
        return Py_NewRef(Py_None);
    PyObject *module = PyImport_ImportModule("fastdl._status");
    PyObject *result = module ? PyObject_CallMethod(module, "raise_status", "i", status) : NULL;
    Py_XDECREF(module);
    return result;
}

#include "call_table.h"

/* ---- shortcuts: METH_FASTCALL functions whose self is the Python function that they stand for ---- */

enum { MAX_NDIM = 64 }; /* NumPy's, since 2.0 */

static PyArray_Descr *float32, *float64; /* NumPy's own, of which there is one each */

static PyObject *in_full(PyObject *function, PyObject *const *given, Py_ssize_t count)
{
    PyObject *tuple = PyTuple_New(count);
    for (Py_ssize_t i = 0; tuple && i < count; i++)
        PyTuple_SetItem(tuple, i, Py_NewRef(given[i]));
    PyObject *result = tuple ? PyObject_Call(function, tuple, NULL) : NULL;
    Py_XDECREF(tuple);
    return result;
}

/* A plain C-contiguous array of float32 or float64, or NULL. */
static PyArrayObject *plain(PyObject *x)
{
    if (!PyArray_CheckExact(x))
        return NULL;
    PyArrayObject *array = (PyArrayObject *)x;
    const PyArray_Descr *dtype = PyArray_DESCR(array);
    return (dtype == float32 || dtype == float64) && PyArray_IS_C_CONTIGUOUS(array) ? array : NULL;
}

/* The same where its dtype is that of `like`. */
static PyArrayObject *plain_like(PyObject *x, PyObject *like)
{
    PyArrayObject *array = plain(x);
    return array && PyArray_Check(like) && PyArray_DESCR(array) == PyArray_DESCR((PyArrayObject *)like) ? array : NULL;
}

/* Whether `wanted`, an int, is negative (any number of dimensions) or the array's number. */
static bool has_ndim(PyArrayObject *array, PyObject *wanted)
{
    const long ndim = PyLong_AsLong(wanted);
    if (ndim == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        return false;
    }
    return ndim < 0 || ndim == PyArray_NDIM(array);
}

/* The shape that a tuple of ints is; false if it is none. */
static bool get_shape(PyObject *tuple, npy_intp *shape, int *ndim)
{
    if (!PyTuple_Check(tuple) || PyTuple_Size(tuple) > MAX_NDIM)
        return false;
    *ndim = (int)PyTuple_Size(tuple);
    for (int i = 0; i < *ndim; i++) {
        shape[i] = PyLong_AsSsize_t(PyTuple_GetItem(tuple, i));
        if (shape[i] < 0) {
            PyErr_Clear();
            return false;
        }
    }
    return true;
}

static bool has_shape(PyArrayObject *array, PyObject *tuple)
{
    npy_intp shape[MAX_NDIM];
    int ndim;
    return get_shape(tuple, shape, &ndim) && PyArray_NDIM(array) == ndim &&
           PyArray_CompareLists(PyArray_DIMS(array), shape, ndim);
}

static PyObject *new_array(PyArrayObject *like, int ndim, const npy_intp *shape)
{
    PyArray_Descr *dtype = PyArray_DESCR(like);
    Py_INCREF(dtype); /* which the new array takes over */
    return PyArray_NewFromDescr(&PyArray_Type, dtype, ndim, shape, NULL, NULL, 0, NULL);
}

#define SHORTCUT(name) static PyObject *name(PyObject *function, PyObject *const *given, Py_ssize_t count)

SHORTCUT(floats) /* x, argument, ndim = -1 */
{
    PyArrayObject *x = count == 2 || count == 3 ? plain(given[0]) : NULL;
    return x && (count == 2 || has_ndim(x, given[2])) ? Py_NewRef(given[0]) : in_full(function, given, count);
}

SHORTCUT(floats_like) /* x, argument, like, ndim = -1 */
{
    PyArrayObject *x = count == 3 || count == 4 ? plain_like(given[0], given[2]) : NULL;
    return x && (count == 3 || has_ndim(x, given[3])) ? Py_NewRef(given[0]) : in_full(function, given, count);
}

SHORTCUT(optional_vector) /* x, argument, like, size */
{
    if (count == 4 && given[0] == Py_None)
        return Py_NewRef(Py_None);
    PyArrayObject *x = count == 4 ? plain_like(given[0], given[2]) : NULL;
    if (x && PyArray_NDIM(x) == 1 && PyLong_Check(given[3]) && PyArray_DIM(x, 0) == PyLong_AsSsize_t(given[3]))
        return Py_NewRef(given[0]);
    PyErr_Clear();
    return in_full(function, given, count);
}

SHORTCUT(optional_like) /* x, argument, like, shape */
{
    if (count == 4 && given[0] == Py_None)
        return Py_NewRef(Py_None);
    PyArrayObject *x = count == 4 ? plain_like(given[0], given[2]) : NULL;
    return x && has_shape(x, given[3]) ? Py_NewRef(given[0]) : in_full(function, given, count);
}

SHORTCUT(conv_weight) /* weight, x, groups, data_format */
{
    PyArrayObject *weight = count == 4 ? plain_like(given[0], given[1]) : NULL;
    if (!weight || PyArray_NDIM(weight) != PyArray_NDIM((PyArrayObject *)given[1]))
        return in_full(function, given, count);
    PyObject *shape = PyArray_IntTupleFromIntp(PyArray_NDIM(weight), PyArray_DIMS(weight));
    return shape ? Py_BuildValue("OONi", given[0], Py_None, shape, -1) : NULL;
}

SHORTCUT(output) /* out, shape, like */
{
    npy_intp shape[MAX_NDIM];
    int ndim;
    if (count == 3 && given[0] == Py_None && plain(given[2]) && get_shape(given[1], shape, &ndim))
        return new_array((PyArrayObject *)given[2], ndim, shape);
    PyArrayObject *out = count == 3 ? plain_like(given[0], given[2]) : NULL;
    return out && PyArray_ISWRITEABLE(out) && has_shape(out, given[1]) ? Py_NewRef(given[0])
                                                                       : in_full(function, given, count);
}

SHORTCUT(in_place) /* x, argument */
{
    PyArrayObject *x = count == 2 ? plain(given[0]) : NULL;
    return x && PyArray_ISWRITEABLE(x) ? Py_NewRef(given[0]) : in_full(function, given, count);
}

SHORTCUT(optional_in_place) /* x, argument, like */
{
    if (count == 3 && given[0] == Py_None)
        return Py_NewRef(Py_None);
    PyArrayObject *x = count == 3 ? plain_like(given[0], given[2]) : NULL;
    return x && PyArray_ISWRITEABLE(x) && PyArray_SAMESHAPE(x, (PyArrayObject *)given[2])
               ? Py_NewRef(given[0])
               : in_full(function, given, count);
}

SHORTCUT(gradient) /* x, wanted = True */
{
    PyArrayObject *x = count == 1 || (count == 2 && given[1] == Py_True) ? plain(given[0]) : NULL;
    return x ? new_array(x, PyArray_NDIM(x), PyArray_DIMS(x)) : in_full(function, given, count);
}

/* Whether both are plain, and do not overlap. */
static bool are_apart(PyObject *one, PyObject *other)
{
    PyArrayObject *a = plain(one), *b = plain(other);
    if (!a || !b)
        return false;
    const uintptr_t a_begin = (uintptr_t)PyArray_DATA(a), b_begin = (uintptr_t)PyArray_DATA(b);
    return a_begin + (uintptr_t)PyArray_NBYTES(a) <= b_begin || b_begin + (uintptr_t)PyArray_NBYTES(b) <= a_begin;
}

SHORTCUT(disjoint) /* written, argument, other */
{
    const bool apart = count == 3 && (given[2] == Py_None || are_apart(given[0], given[2]));
    return apart ? Py_NewRef(Py_None) : in_full(function, given, count);
}

SHORTCUT(same_or_disjoint) /* written, argument, other */
{
    const bool fine = count == 3 && plain(given[0]) && (given[0] == given[2] || are_apart(given[0], given[2]));
    return fine ? Py_NewRef(Py_None) : in_full(function, given, count);
}

SHORTCUT(choice) /* value, argument, names */
{
    for (Py_ssize_t i = 0; count == 3 && PyTuple_Check(given[2]) && i < PyTuple_Size(given[2]); i++)
        if (PyTuple_GetItem(given[2], i) == given[0])
            return PyLong_FromSsize_t(i);
    return in_full(function, given, count);
}

#define ROW(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, NULL}

static PyMethodDef shortcuts[] = {
    ROW(floats),          ROW(floats_like), ROW(optional_vector), ROW(optional_like), ROW(conv_weight),
    ROW(output),          ROW(in_place),    ROW(optional_in_place), ROW(gradient),    ROW(disjoint),
    ROW(same_or_disjoint), ROW(choice),     {NULL, NULL, 0, NULL},
};

static PyObject *shortcut(PyObject *module, PyObject *function)
{
    (void)module;
    PyObject *name = PyObject_GetAttrString(function, "__name__");
    PyMethodDef *row = shortcuts;
    while (name && row->ml_name && PyUnicode_CompareWithASCIIString(name, row->ml_name) != 0)
        row++;
    PyObject *result = NULL;
    if (name && row->ml_name)
        result = PyCFunction_New(row, function);
    else if (name)
        PyErr_Format(PyExc_LookupError, "%S: there is no shortcut of that name", name);
    Py_XDECREF(name);
    return result;
}

/* ---- remember: self is (the function, a dict of its arguments: (the same arguments, the result)) ---- */

/* Once there are so many, all are forgotten: nobody alternates between so many shapes. */
enum { REMEMBERED = 4096 };

/* Whether equal arguments are also of the same types: 1 == 1.0 == True. */
static bool same_types(PyObject *a, PyObject *b)
{
    if (Py_TYPE(a) != Py_TYPE(b))
        return false;
    if (a != b && PyTuple_Check(a))
        for (Py_ssize_t i = PyTuple_Size(a); i-- > 0;)
            if (!same_types(PyTuple_GetItem(a, i), PyTuple_GetItem(b, i)))
                return false;
    return true;
}

static PyObject *recall(PyObject *self, PyObject *const *given, Py_ssize_t count)
{
    PyObject *function = PyTuple_GetItem(self, 0), *results = PyTuple_GetItem(self, 1);
    PyObject *key = PyTuple_New(count);
    if (!key)
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++)
        PyTuple_SetItem(key, i, Py_NewRef(given[i]));
    PyObject *found = PyDict_GetItemWithError(results, key), *result;
    if (found && same_types(key, PyTuple_GetItem(found, 0))) {
        result = Py_NewRef(PyTuple_GetItem(found, 1));
    } else {
        const bool hashable = !PyErr_Occurred();
        PyErr_Clear();
        result = PyObject_Call(function, key, NULL);
        if (result && hashable) {
            if (PyDict_Size(results) >= REMEMBERED)
                PyDict_Clear(results);
            PyObject *entry = PyTuple_Pack(2, key, result);
            if (!entry || PyDict_SetItem(results, key, entry) < 0)
                PyErr_Clear(); /* it is computed again, then */
            Py_XDECREF(entry);
        }
    }
    Py_DECREF(key);
    return result;
}

static PyMethodDef recall_method = {"recall", (PyCFunction)(void (*)(void))recall, METH_FASTCALL, NULL};

static PyObject *remember(PyObject *module, PyObject *function)
{
    (void)module;
    PyObject *self = Py_BuildValue("ON", function, PyDict_New());
    PyObject *result = self ? PyCFunction_New(&recall_method, self) : NULL;
    Py_XDECREF(self);
    return result;
}

/* ---- the module ---- */

static PyMethodDef functions[] = {
    CALL_TABLE{"shortcut", shortcut, METH_O, NULL},
    {"remember", remember, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static int set_up(PyObject *module)
{
    (void)module;
    if (PyArray_ImportNumPyAPI() < 0)
        return -1;
    float32 = PyArray_DescrFromType(NPY_FLOAT);
    float64 = PyArray_DescrFromType(NPY_DOUBLE);
    return float32 && float64 ? 0 : -1;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)set_up}, {0, NULL}};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "fastdl._call", NULL, 0, functions, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__call(void) { return PyModuleDef_Init(&definition); }
