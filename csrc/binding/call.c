/* The way in from Python that costs little: a second module, fastdl._call, in the same library as cffi's
 * fastdl._native, of plain functions over NumPy arrays. In it are
 *
 *   kernels       one function for each (generated, call_table.h): takes arrays, numbers and a struct as a tuple, picks
 *                 the dtype, raises on a status, and lets other Python threads run if the work is worth it
 *   shortcut(f)   the verb f of fastdl/functional/verbs with its common case, arguments that are right already,
 *                 answered here; everything else, mistakes above all, is left to f, which is complete by itself
 *   remember(f)   f, computed once for each combination of arguments
 *
 * Only the stable ABI of Python 3.10 and NumPy's C API are used. */
#define NPY_NO_DEPRECATED_API NPY_1_25_API_VERSION
#define NPY_TARGET_VERSION NPY_1_25_API_VERSION
#include <Python.h>
#include <numpy/arrayobject.h>
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "fastdl.h"

/* ---- arguments of a kernel, one after the other; after a mistake the rest are zeros ---- */

/* Below this much work, elements or iterations, a kernel ends sooner than another thread would have started. */
enum { WORTH_RELEASING = 4096 };

typedef struct {
    const char *name;         /* the kernel's */
    const char *const *names; /* its parameters' */
    PyObject *const *given;
    int real; /* NumPy's number of the dtype */
    bool failed;
    int64_t work;
} arguments;

static void *fail(arguments *a, int i, const char *expected)
{
    if (!a->failed)
        PyErr_Format(PyExc_TypeError, "%s: %s is not %s", a->name, a->names[i], expected);
    a->failed = true;
    return NULL;
}

/* After a conversion that raised: the same exception, with the parameter's name. */
static void name_it(arguments *a, int i, const char *expected)
{
    if (!a->failed)
        PyErr_Format(PyErr_Occurred(), "%s: %s is not %s", a->name, a->names[i], expected);
    a->failed = true;
}

static arguments take_arguments(const char *name, const char *const *names, PyObject *const *given, Py_ssize_t count,
                                Py_ssize_t expected, int dtype_of)
{
    arguments a = {name, names, given, NPY_FLOAT, false, 0};
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

/* Whether the elements of an array lie at whole elements from each other, as those of records' fields need not. */
static bool has_whole_strides(PyArrayObject *array)
{
    if (!PyArray_ISALIGNED(array))
        return false;
    for (int d = 0; d < PyArray_NDIM(array); d++)
        if (PyArray_STRIDE(array, d) % (npy_intp)PyArray_ITEMSIZE(array) != 0)
            return false;
    return true;
}

/* The first element of an array of any such strides, which is read. */
static void *take_strided(arguments *a, int i, int type, bool written, bool optional)
{
    PyArrayObject *array = (PyArrayObject *)a->given[i];
    if (a->failed)
        return NULL;
    if (written || optional || !PyArray_Check(a->given[i]) || PyArray_ISBYTESWAPPED(array) ||
        PyArray_TYPE(array) != type || !has_whole_strides(array))
        return fail(a, i, "an array of the dtype that the kernel takes, of strides that are whole elements");
    a->work += PyArray_SIZE(array);
    return PyArray_DATA(array);
}

static int64_t take_integer(arguments *a, int i)
{
    if (!a->failed && !PyLong_CheckExact(a->given[i]) && PyArray_IsScalar(a->given[i], Bool)) /* which is no int */
        return PyObject_IsTrue(a->given[i]);
    const int64_t value = a->failed ? 0 : PyLong_AsLongLong(a->given[i]);
    if (value == -1 && PyErr_Occurred())
        name_it(a, i, "an int of 64 bits");
    a->work = value > a->work ? value : a->work;
    return value;
}

static double take_number(arguments *a, int i)
{
    const double value = a->failed ? 0 : PyFloat_AsDouble(a->given[i]);
    if (value == -1 && PyErr_Occurred())
        name_it(a, i, "a number");
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
            name_it(a, i, "a tuple of ints of 64 bits");
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
    PyObject *module = PyImport_ImportModule("fastdl._kernels");
    PyObject *result = module ? PyObject_CallMethod(module, "raise_status", "i", status) : NULL;
    Py_XDECREF(module);
    return result;
}

/* ---- recording: docs in fastdl/program.py ---- */

/* Called instead of each kernel of this thread: with its name, the dtype, and the arguments it was given. */
static _Thread_local PyObject *recorder;

static PyObject *as_tuple(PyObject *const *given, Py_ssize_t count)
{
    PyObject *tuple = PyTuple_New(count);
    for (Py_ssize_t i = 0; tuple && i < count; i++)
        PyTuple_SetItem(tuple, i, Py_NewRef(given[i]));
    return tuple;
}

/* ---- other backends: docs in fastdl/_implementation.py ---- */

/* Called instead of each kernel, as a recorder is, which goes first. NULL: the kernel itself; of a thread, what the
 * process has. */
static PyObject *backend;
static _Thread_local PyObject *thread_backend; /* Py_None: the kernel itself */
static bool diverted;                          /* since one of them was set for the first time */

static PyObject *backend_in_use(void)
{
    if (!diverted || !thread_backend)
        return backend;
    return thread_backend == Py_None ? NULL : thread_backend;
}

static PyObject *diversion(void) { return recorder ? recorder : backend_in_use(); }

/* Leave the call to a recorder or a backend. */
static PyObject *divert(PyObject *instead, const arguments *a, Py_ssize_t count)
{
    PyObject *given = as_tuple(a->given, count);
    Py_INCREF(instead); /* which it may replace */
    PyObject *result =
        given ? PyObject_CallFunction(instead, "siO", a->name, a->real == NPY_FLOAT ? 0 : 1, given) : NULL;
    Py_DECREF(instead);
    Py_XDECREF(given);
    return result;
}

/* set_backend(callable, or None for the kernels themselves): of the process. Returns the one before. */
static PyObject *set_backend(PyObject *module, PyObject *next)
{
    (void)module;
    PyObject *before = backend ? backend : Py_NewRef(Py_None);
    backend = next == Py_None ? NULL : Py_NewRef(next);
    diverted = true;
    return before;
}

/* set_thread_backend(the same, or ... for that of the process): of this thread. */
static PyObject *set_thread_backend(PyObject *module, PyObject *next)
{
    (void)module;
    PyObject *before = thread_backend ? thread_backend : Py_NewRef(Py_Ellipsis);
    thread_backend = next == Py_Ellipsis ? NULL : Py_NewRef(next);
    diverted = true;
    return before;
}

/* get_diversion(): what is called instead of kernels in this thread, a recorder or a backend, or None. */
static PyObject *get_diversion(PyObject *module, PyObject *nothing)
{
    (void)module, (void)nothing;
    PyObject *found = diversion();
    return Py_NewRef(found ? found : Py_None);
}

/* get_backend(): the same of backends only. */
static PyObject *get_backend(PyObject *module, PyObject *nothing)
{
    (void)module, (void)nothing;
    PyObject *found = backend_in_use();
    return Py_NewRef(found ? found : Py_None);
}

/* set_recorder(callable or None): of this thread. Returns the one before. */
static PyObject *set_recorder(PyObject *module, PyObject *next)
{
    (void)module;
    PyObject *before = recorder ? recorder : Py_NewRef(Py_None);
    recorder = next == Py_None ? NULL : Py_NewRef(next);
    return before;
}

/* get_recorder(): or None. */
static PyObject *get_recorder(PyObject *module, PyObject *nothing)
{
    (void)module, (void)nothing;
    return Py_NewRef(recorder ? recorder : Py_None);
}

#include "call_table.h"

/* ---- shortcuts: METH_FASTCALL functions whose self is the Python function that they stand for ---- */

enum { MAX_NDIM = 64 }; /* NumPy's, since 2.0 */

static PyArray_Descr *float32, *float64, *int64; /* NumPy's own, of which there is one each */

static PyObject *in_full(PyObject *function, PyObject *const *given, Py_ssize_t count)
{
    PyObject *tuple = as_tuple(given, count);
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

/* The same elements in C order, in a new array; NULL after an error. */
static PyObject *contiguous_copy(PyArrayObject *x)
{
    const int ndim = PyArray_NDIM(x);
    PyObject *result = new_array(x, ndim, PyArray_DIMS(x));
    if (!result)
        return NULL;
    int64_t geometry[3 * MAX_NDIM];
    const npy_intp itemsize = (npy_intp)PyArray_ITEMSIZE(x);
    for (int d = 0; d < ndim; d++) {
        geometry[3 * d] = PyArray_DIM(x, d);
        geometry[3 * d + 1] = PyArray_STRIDE(x, d) / itemsize;
        geometry[3 * d + 2] = PyArray_STRIDE((PyArrayObject *)result, d) / itemsize;
    }
    const void *from = PyArray_DATA(x);
    void *to = PyArray_DATA((PyArrayObject *)result);
    PyThreadState *others = PyArray_SIZE(x) >= WORTH_RELEASING ? PyEval_SaveThread() : NULL;
    const int status =
        PyArray_DESCR(x) == float32 ? fdl_copy_f32(from, to, geometry, ndim) : fdl_copy_f64(from, to, geometry, ndim);
    PyObject *none = end_call(others, status);
    if (!none)
        Py_DECREF(result);
    Py_XDECREF(none);
    return none ? result : NULL;
}

#define SHORTCUT(name) static PyObject *name(PyObject *function, PyObject *const *given, Py_ssize_t count)

SHORTCUT(copied) /* x */
{
    PyArrayObject *x = count == 1 && !recorder && PyArray_CheckExact(given[0]) ? (PyArrayObject *)given[0] : NULL;
    const bool fine = x && (PyArray_DESCR(x) == float32 || PyArray_DESCR(x) == float64) && has_whole_strides(x);
    return fine ? contiguous_copy(x) : in_full(function, given, count);
}

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

SHORTCUT(floats_as) /* x, argument, like */
{
    PyArrayObject *x = count == 3 ? plain_like(given[0], given[2]) : NULL;
    const bool fine = x && PyArray_SAMESHAPE(x, (PyArrayObject *)given[2]);
    return fine ? Py_NewRef(given[0]) : in_full(function, given, count);
}

SHORTCUT(bools) /* x, argument, shape */
{
    PyArrayObject *x = count == 3 && PyArray_CheckExact(given[0]) ? (PyArrayObject *)given[0] : NULL;
    const bool fine = x && PyArray_TYPE(x) == NPY_BOOL && PyArray_IS_C_CONTIGUOUS(x) && has_shape(x, given[2]);
    return fine ? Py_NewRef(given[0]) : in_full(function, given, count);
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

SHORTCUT(linear_weight) /* weight, x */
{
    static PyObject *packed_type; /* PackedLinearWeight (data, shape), once it is known */
    if (!packed_type) {
        PyObject *globals = PyObject_GetAttrString(function, "__globals__");
        packed_type = globals ? Py_XNewRef(PyDict_GetItemString(globals, "PackedLinearWeight")) : NULL;
        Py_XDECREF(globals);
        PyErr_Clear();
    }
    const bool is_packed = count == 2 && (PyObject *)Py_TYPE(given[0]) == packed_type;
    PyObject *elements = is_packed ? PyTuple_GetItem(given[0], 0) : given[0];
    PyArrayObject *weight = count == 2 ? plain_like(elements, given[1]) : NULL;
    if (!weight)
        return in_full(function, given, count);
    PyObject *shape = is_packed ? Py_NewRef(PyTuple_GetItem(given[0], 1))
                                : PyArray_IntTupleFromIntp(PyArray_NDIM(weight), PyArray_DIMS(weight));
    PyObject *packed = PyLong_FromLong(is_packed);
    PyObject *result = shape && packed ? PyTuple_Pack(3, elements, shape, packed) : NULL;
    Py_XDECREF(shape);
    Py_XDECREF(packed);
    return result;
}

SHORTCUT(conv_weight) /* weight, x, ndim, groups, data_format */
{
    PyArrayObject *weight = count == 5 ? plain_like(given[0], given[1]) : NULL;
    if (!weight || !PyLong_CheckExact(given[2]) || PyLong_AsLong(given[2]) != PyArray_NDIM(weight))
        return in_full(function, given, count);
    PyObject *shape = PyArray_IntTupleFromIntp(PyArray_NDIM(weight), PyArray_DIMS(weight)), *tile = PyLong_FromLong(-1);
    PyObject *result = shape && tile ? PyTuple_Pack(4, given[0], Py_None, shape, tile) : NULL;
    Py_XDECREF(shape);
    Py_XDECREF(tile);
    return result;
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
    PyArrayObject *x = count == 1 || (count == 2 && PyBool_Check(given[1])) ? plain(given[0]) : NULL;
    const int ndim = x ? PyArray_NDIM(x) : 0;
    if (x && (count == 1 || given[1] == Py_True))
        return new_array(x, ndim, PyArray_DIMS(x));
    if (ndim == 0)
        return in_full(function, given, count);
    npy_intp shape[MAX_NDIM];
    memcpy(shape, PyArray_DIMS(x), (size_t)ndim * sizeof *shape);
    shape[0] = 0;
    return new_array(x, ndim, shape);
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

/* A float or an int of Python's own as a double. */
static bool is_number(PyObject *x, double *value)
{
    if (!PyFloat_CheckExact(x) && !PyLong_CheckExact(x))
        return false;
    *value = PyFloat_AsDouble(x);
    if (*value == -1 && PyErr_Occurred()) { /* an int that is too large */
        PyErr_Clear();
        return false;
    }
    return true;
}

/* x, a number within the bounds, as a float; NULL if it is none. */
static PyObject *number_within(PyObject *x, double least, double most)
{
    double value;
    if (!is_number(x, &value) || !(least <= value && value <= most))
        return NULL;
    return PyFloat_CheckExact(x) ? Py_NewRef(x) : PyFloat_FromDouble(value);
}

SHORTCUT(number) /* value, argument, least = -DBL_MAX, most = DBL_MAX */
{
    double least = -DBL_MAX, most = DBL_MAX;
    const bool bounds = count >= 2 && count <= 4 && (count < 3 || is_number(given[2], &least)) &&
                        (count < 4 || is_number(given[3], &most));
    PyObject *result = bounds ? number_within(given[0], least, most) : NULL;
    return result ? result : in_full(function, given, count);
}

SHORTCUT(number_or_nan) /* value, argument */
{
    PyObject *result = count == 2 ? number_within(given[0], -INFINITY, INFINITY) : NULL;
    return result ? result : in_full(function, given, count);
}

SHORTCUT(probability) /* value, argument */
{
    PyObject *result = count == 2 ? number_within(given[0], 0, 1) : NULL;
    return result ? result : in_full(function, given, count);
}

SHORTCUT(pair) /* value, argument */
{
    const bool two = count == 2 && PyTuple_CheckExact(given[0]) && PyTuple_Size(given[0]) == 2;
    const bool fine =
        two && PyFloat_CheckExact(PyTuple_GetItem(given[0], 0)) && PyFloat_CheckExact(PyTuple_GetItem(given[0], 1));
    return fine ? Py_NewRef(given[0]) : in_full(function, given, count);
}

SHORTCUT(integer) /* value, argument, least = -2^63, most = 2^63 - 1 */
{
    int64_t numbers[] = {0, 0, INT64_MIN, INT64_MAX}; /* value, argument, least, most */
    for (Py_ssize_t i = 0; i < count && count <= 4; i += i == 0 ? 2 : 1) {
        int overflow = 0;
        numbers[i] = PyLong_CheckExact(given[i]) ? PyLong_AsLongLongAndOverflow(given[i], &overflow) : 0;
        if (overflow || !PyLong_CheckExact(given[i]))
            return in_full(function, given, count);
    }
    const bool fine = count >= 2 && count <= 4 && numbers[2] <= numbers[0] && numbers[0] <= numbers[3];
    return fine ? Py_NewRef(given[0]) : in_full(function, given, count);
}

SHORTCUT(flag) /* value, argument */
{
    return count == 2 && PyBool_Check(given[0]) ? Py_NewRef(given[0]) : in_full(function, given, count);
}

SHORTCUT(choice) /* value, argument, names */
{
    for (Py_ssize_t i = 0; count == 3 && PyTuple_Check(given[2]) && i < PyTuple_Size(given[2]); i++)
        if (PyTuple_GetItem(given[2], i) == given[0])
            return PyLong_FromSsize_t(i);
    return in_full(function, given, count);
}

/* Whether x is an int64 array as kernels take it. */
static bool is_index_array(PyObject *x)
{
    return PyArray_CheckExact(x) && PyArray_DESCR((PyArrayObject *)x) == int64 &&
           PyArray_IS_C_CONTIGUOUS((PyArrayObject *)x);
}

SHORTCUT(class_indices) /* x, argument, ndim */
{
    const bool fine = count == 3 && is_index_array(given[0]) && has_ndim((PyArrayObject *)given[0], given[2]);
    return fine ? Py_NewRef(given[0]) : in_full(function, given, count);
}

SHORTCUT(class_target) /* target, x, soft */
{
    if (count != 3 || !PyArray_Check(given[1]))
        return in_full(function, given, count);
    PyArrayObject *x = (PyArrayObject *)given[1];
    if (given[2] == Py_True && plain_like(given[0], given[1]) && PyArray_SAMESHAPE((PyArrayObject *)given[0], x))
        return PyTuple_Pack(2, Py_None, given[0]);
    const int ndim = PyArray_NDIM(x);
    PyArrayObject *target = is_index_array(given[0]) ? (PyArrayObject *)given[0] : NULL;
    if (!target || ndim < 1 || PyArray_NDIM(target) != ndim - 1 ||
        (ndim > 1 && PyArray_DIM(target, 0) != PyArray_DIM(x, 0)) ||
        (ndim > 2 && !PyArray_CompareLists(PyArray_DIMS(target) + 1, PyArray_DIMS(x) + 2, ndim - 2)))
        return in_full(function, given, count);
    return PyTuple_Pack(2, given[0], Py_None);
}

SHORTCUT(position_array) /* x, argument, shape, rank */
{
    npy_intp shape[MAX_NDIM];
    int ndim = 0;
    const bool array = count == 4 && is_index_array(given[0]) && get_shape(given[2], shape, &ndim);
    const long compared = array ? ndim - PyLong_AsLong(given[3]) : -1;
    const bool fine = compared >= 0 && compared <= ndim && PyArray_NDIM((PyArrayObject *)given[0]) == ndim &&
                      PyArray_CompareLists(PyArray_DIMS((PyArrayObject *)given[0]), shape, (int)compared);
    return fine ? Py_NewRef(given[0]) : in_full(function, given, count);
}

SHORTCUT(matrices) /* x, argument, like = None */
{
    const bool alone = count == 2 || (count == 3 && given[2] == Py_None);
    const bool fine = (alone && plain(given[0])) || (count == 3 && !alone && plain_like(given[0], given[2]));
    PyObject *none = fine ? PyTuple_New(0) : NULL;
    PyObject *result = none ? PyTuple_Pack(2, given[0], none) : fine ? NULL : in_full(function, given, count);
    Py_XDECREF(none);
    return result;
}

SHORTCUT(operands) /* x, x_name, other, other_name */
{
    PyArrayObject *array[2] = {count == 4 ? plain(given[0]) : NULL, count == 4 ? plain(given[2]) : NULL};
    PyArrayObject *like = array[0] ? array[0] : array[1];
    double value = 0;
    bool fine = like != NULL;
    if (fine && array[0] && array[1])
        fine = PyArray_DESCR(array[0]) == PyArray_DESCR(array[1]);
    else if (fine)
        fine = is_number(given[array[0] ? 2 : 0], &value);
    npy_intp shape[MAX_NDIM];
    int64_t geometry[MAX_NDIM][4] = {{0}}, step[2] = {1, 1};
    int ndim = 0;
    for (int i = 0; i < 2; i++)
        ndim = array[i] && PyArray_NDIM(array[i]) > ndim ? PyArray_NDIM(array[i]) : ndim;
    for (int d = 1; fine && d <= ndim; d++) { /* from the last dimension back */
        int64_t *row = geometry[ndim - d];
        row[0] = 1;
        for (int i = 0; i < 2; i++) {
            const int own = array[i] ? PyArray_NDIM(array[i]) : 0;
            const int64_t n = d <= own ? PyArray_DIM(array[i], own - d) : 1;
            if (n == 1)
                continue;
            fine = fine && (row[0] == 1 || row[0] == n);
            row[0] = n, row[1 + i] = step[i], step[i] *= n;
        }
        shape[ndim - d] = (npy_intp)row[0];
    }
    if (!fine)
        return in_full(function, given, count);
    const npy_intp rows[] = {ndim, 4};
    PyObject *items[] = {PyFloat_FromDouble(value), PyArray_IntTupleFromIntp(ndim, shape),
                         PyArray_SimpleNew(2, rows, NPY_INT64)};
    if (items[2])
        memcpy(PyArray_DATA((PyArrayObject *)items[2]), geometry, (size_t)ndim * sizeof *geometry);
    PyObject *result = items[0] && items[1] && items[2]
                           ? PyTuple_Pack(6, array[0] ? given[0] : Py_None, array[1] ? given[2] : Py_None, items[0],
                                          (PyObject *)like, items[1], items[2])
                           : NULL;
    for (int i = 0; i < 3; i++)
        Py_XDECREF(items[i]);
    return result;
}

SHORTCUT(many_like) /* x, argument, like */
{
    const Py_ssize_t size = count == 3 && PyTuple_CheckExact(given[0]) ? PyTuple_Size(given[0]) : 0;
    Py_ssize_t right = 0;
    while (right < size && plain_like(PyTuple_GetItem(given[0], right), given[2]))
        right++;
    return right > 0 && right == size ? Py_NewRef(given[0]) : in_full(function, given, count);
}

SHORTCUT(several_floats) /* x, argument */
{
    const Py_ssize_t size = count == 2 && PyTuple_CheckExact(given[0]) ? PyTuple_Size(given[0]) : 0;
    PyArrayObject *first = size > 0 ? plain(PyTuple_GetItem(given[0], 0)) : NULL;
    const int ndim = first ? PyArray_NDIM(first) : 0;
    Py_ssize_t right = 0;
    while (ndim > 0 && right < size && plain_like(PyTuple_GetItem(given[0], right), (PyObject *)first) &&
           PyArray_NDIM((PyArrayObject *)PyTuple_GetItem(given[0], right)) == ndim)
        right++;
    return right > 0 && right == size ? Py_NewRef(given[0]) : in_full(function, given, count);
}

SHORTCUT(shapes_of) /* arrays */
{
    const Py_ssize_t size = count == 1 && PyTuple_Check(given[0]) ? PyTuple_Size(given[0]) : -1;
    PyObject *shapes = size >= 0 ? PyTuple_New(size) : in_full(function, given, count);
    for (Py_ssize_t i = 0; shapes && i < size; i++) {
        PyArrayObject *array = (PyArrayObject *)PyTuple_GetItem(given[0], i);
        PyObject *shape = PyArray_IntTupleFromIntp(PyArray_NDIM(array), PyArray_DIMS(array));
        if (!shape || PyTuple_SetItem(shapes, i, shape) < 0)
            Py_CLEAR(shapes);
    }
    return shapes;
}

SHORTCUT(split_along) /* like, argument, sizes, dim */
{
    PyArrayObject *like = count == 4 && PyTuple_CheckExact(given[2]) ? plain(given[0]) : NULL;
    const Py_ssize_t size = like ? PyTuple_Size(given[2]) : 0;
    const long dim = size > 0 ? PyLong_AsLong(given[3]) : -1;
    npy_intp shape[MAX_NDIM], total = 0;
    int parts = 0;
    bool fine = dim >= 0 && dim < PyArray_NDIM(like);
    for (Py_ssize_t i = 0; i < size && fine; i++) {
        PyObject *item = PyTuple_GetItem(given[2], i);
        const npy_intp n = PyLong_CheckExact(item) ? PyLong_AsSsize_t(item) : -1;
        fine = n >= 0 && n <= PyArray_DIM(like, (int)dim) - total;
        total += n;
    }
    if (!fine || total != PyArray_DIM(like, (int)dim)) {
        PyErr_Clear();
        return in_full(function, given, count);
    }
    PyObject *result = PyTuple_New(size);
    memcpy(shape, PyArray_DIMS(like), (size_t)PyArray_NDIM(like) * sizeof *shape);
    for (; result && parts < size; parts++) {
        shape[dim] = PyLong_AsSsize_t(PyTuple_GetItem(given[2], parts));
        PyObject *part = new_array(like, PyArray_NDIM(like), shape);
        if (!part || PyTuple_SetItem(result, parts, part) < 0)
            Py_CLEAR(result);
    }
    return result;
}

/* Rows of addresses in `first` and in `second` (NULL: 0), tuples of as many arrays as each other, and sizes; NULL
 * without an error if what is in them is not plain. */
static PyObject *table_of(PyObject *first, PyObject *second, Py_ssize_t size)
{
    for (Py_ssize_t i = 0; i < size; i++)
        if ((first && !plain(PyTuple_GetItem(first, i))) || (second && !plain(PyTuple_GetItem(second, i))))
            return NULL;
    const npy_intp shape[] = {size, 3};
    PyObject *table = PyArray_SimpleNew(2, shape, NPY_INT64);
    int64_t *row = table ? PyArray_DATA((PyArrayObject *)table) : NULL;
    for (Py_ssize_t i = 0; row && i < size; i++, row += 3) {
        PyArrayObject *a = first ? (PyArrayObject *)PyTuple_GetItem(first, i) : NULL;
        PyArrayObject *b = second ? (PyArrayObject *)PyTuple_GetItem(second, i) : NULL;
        row[0] = a ? (int64_t)(intptr_t)PyArray_DATA(a) : 0;
        row[1] = b ? (int64_t)(intptr_t)PyArray_DATA(b) : 0;
        row[2] = PyArray_SIZE(a ? a : b);
    }
    return table;
}

SHORTCUT(array_table) /* first, second, both */
{
    const bool tuples = !recorder && count == 3 && PyTuple_Check(given[0]) && PyTuple_Check(given[1]);
    const Py_ssize_t size = tuples ? PyTuple_Size(given[0]) : -1;
    const int both = tuples && PyTuple_Size(given[1]) == size ? PyObject_IsTrue(given[2]) : -1;
    PyObject *table = both >= 0 ? table_of(given[0], both ? given[1] : NULL, size) : NULL;
    if (!table && both < 0)
        PyErr_Clear();
    return table || PyErr_Occurred() ? table : in_full(function, given, count);
}

SHORTCUT(result_table) /* arrays */
{
    const bool tuple = !recorder && count == 1 && PyTuple_Check(given[0]);
    PyObject *table = tuple ? table_of(NULL, given[0], PyTuple_Size(given[0])) : NULL;
    return table || PyErr_Occurred() ? table : in_full(function, given, count);
}

#define ROW(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, NULL}

static PyMethodDef shortcuts[] = {
    ROW(floats),
    ROW(floats_like),
    ROW(bools),
    ROW(optional_vector),
    ROW(optional_like),
    ROW(linear_weight),
    ROW(conv_weight),
    ROW(output),
    ROW(in_place),
    ROW(optional_in_place),
    ROW(gradient),
    ROW(disjoint),
    ROW(same_or_disjoint),
    ROW(choice),
    ROW(class_indices),
    ROW(class_target),
    ROW(position_array),
    ROW(many_like),
    ROW(matrices),
    ROW(operands),
    ROW(array_table),
    ROW(number),
    ROW(number_or_nan),
    ROW(probability),
    ROW(pair),
    ROW(integer),
    ROW(flag),
    ROW(floats_as),
    ROW(shapes_of),
    ROW(split_along),
    ROW(result_table),
    ROW(copied),
    ROW(several_floats),
    {NULL, NULL, 0, NULL},
};

/* A copy, for ever, of the docstring that the function's shortcut is to have; NULL after an error. */
static char *c_docstring(PyObject *function)
{
    PyObject *module = PyImport_ImportModule("fastdl._docs");
    PyObject *text = module ? PyObject_CallMethod(module, "c_docstring", "O", function) : NULL;
    Py_ssize_t size = 0;
    const char *characters = text ? PyUnicode_AsUTF8AndSize(text, &size) : NULL;
    char *copy = characters ? PyMem_Malloc((size_t)size + 1) : NULL;
    if (copy)
        memcpy(copy, characters, (size_t)size + 1);
    else if (characters)
        PyErr_NoMemory();
    Py_XDECREF(module);
    Py_XDECREF(text);
    return copy;
}

static PyObject *shortcut(PyObject *module, PyObject *function)
{
    (void)module;
    PyObject *name = PyObject_GetAttrString(function, "__name__");
    PyMethodDef *row = shortcuts;
    while (name && row->ml_name && PyUnicode_CompareWithASCIIString(name, row->ml_name) != 0)
        row++;
    PyObject *result = NULL;
    if (name && row->ml_name) {
        if (!row->ml_doc)
            row->ml_doc = c_docstring(function);
        result = row->ml_doc ? PyCFunction_New(row, function) : NULL;
    } else if (name)
        PyErr_Format(PyExc_LookupError, "%S: there is no shortcut of that name", name);
    Py_XDECREF(name);
    return result;
}

/* ---- remember: self is (the function, a list of (its arguments, the result) or None) ---- */

/* A set of places for each hash, the newest result in the first of them; what leaves the last is forgotten. */
enum { SETS = 512, WAYS = 4 };

static uint64_t join(uint64_t hash, uint64_t other) { return ((hash ^ other) * 0x9E3779B97F4A7C15u) >> 1 ^ hash << 7; }

/* The hash of x and which of the commonest types it has, as 1, 1.0 and True have one hash; or those of a tuple's elements,
 * joined to *hash; false if there is none, as for a list. */
static bool join_hash(PyObject *x, uint64_t *hash)
{
    if (PyTuple_CheckExact(x)) {
        const Py_ssize_t size = PyTuple_Size(x);
        *hash = join(*hash, (uint64_t)size);
        for (Py_ssize_t i = 0; i < size; i++)
            if (!join_hash(PyTuple_GetItem(x, i), hash))
                return false;
        return true;
    }
    const Py_hash_t own = PyObject_Hash(x);
    if (own == -1)
        PyErr_Clear();
    const uint64_t type = PyLong_CheckExact(x) ? 1 : PyFloat_CheckExact(x) ? 2 : PyBool_Check(x) ? 3 : 0;
    *hash = join(*hash, (uint64_t)own ^ type << 60);
    return own != -1;
}

/* Equal, and of the same types throughout: 1 == 1.0 == True. */
static bool is_same(PyObject *a, PyObject *b)
{
    if (a == b || Py_TYPE(a) != Py_TYPE(b))
        return a == b;
    if (!PyTuple_CheckExact(a)) {
        const int equal = PyObject_RichCompareBool(a, b, Py_EQ);
        if (equal < 0)
            PyErr_Clear();
        return equal == 1;
    }
    const Py_ssize_t size = PyTuple_Size(a);
    if (size != PyTuple_Size(b))
        return false;
    for (Py_ssize_t i = 0; i < size; i++)
        if (!is_same(PyTuple_GetItem(a, i), PyTuple_GetItem(b, i)))
            return false;
    return true;
}

static PyObject *recall(PyObject *self, PyObject *const *given, Py_ssize_t count)
{
    PyObject *function = PyTuple_GetItem(self, 0), *remembered = PyTuple_GetItem(self, 1);
    uint64_t hash = 0;
    for (Py_ssize_t i = 0; i < count; i++)
        if (!join_hash(given[i], &hash))
            return in_full(function, given, count);
    const Py_ssize_t first = (Py_ssize_t)((hash ^ hash >> 32) % SETS) * WAYS;
    for (Py_ssize_t way = first; way < first + WAYS; way++) {
        PyObject *entry = PyList_GetItem(remembered, way);
        if (entry == Py_None)
            break;
        Py_INCREF(entry); /* a comparison may run Python code */
        PyObject *key = PyTuple_GetItem(entry, 0), *result = NULL;
        bool same = PyTuple_Size(key) == count;
        for (Py_ssize_t i = 0; same && i < count; i++)
            same = is_same(given[i], PyTuple_GetItem(key, i));
        if (same)
            result = Py_NewRef(PyTuple_GetItem(entry, 1));
        Py_DECREF(entry);
        if (same)
            return result;
    }
    PyObject *key = as_tuple(given, count);
    PyObject *result = key ? PyObject_Call(function, key, NULL) : NULL;
    PyObject *entry = result ? PyTuple_Pack(2, key, result) : NULL;
    Py_XDECREF(key);
    if (!entry) {
        Py_XDECREF(result);
        return NULL;
    }
    for (Py_ssize_t way = first + WAYS - 1; way > first; way--)
        PyList_SetItem(remembered, way, Py_NewRef(PyList_GetItem(remembered, way - 1)));
    PyList_SetItem(remembered, first, entry);
    return result;
}

static PyMethodDef recall_method = {"recall", (PyCFunction)(void (*)(void))recall, METH_FASTCALL, NULL};

static PyObject *remember(PyObject *module, PyObject *function)
{
    (void)module;
    PyObject *nothing = PyList_New(SETS * WAYS);
    for (Py_ssize_t i = 0; nothing && i < SETS * WAYS; i++)
        PyList_SetItem(nothing, i, Py_NewRef(Py_None));
    PyObject *self = nothing ? PyTuple_Pack(2, function, nothing) : NULL;
    PyObject *result = self ? PyCFunction_New(&recall_method, self) : NULL;
    Py_XDECREF(nothing);
    Py_XDECREF(self);
    return result;
}

/* ---- the arrays of an optimizer's step ---- */

/* A C-contiguous array of that type, in native byte order. */
static bool is_of(PyArrayObject *array, int type)
{
    return PyArray_TYPE(array) == type && PyArray_IS_C_CONTIGUOUS(array) && !PyArray_ISBYTESWAPPED(array);
}

/* take_gradients(grads, params, places, table, type): look at the arrays of a table (fastdl.h) anew, so that
 * nobody has to trust that they are as they were. grads: a tuple of arrays, or None; of row i it is grads[places[i]], or
 * grads[i] if places is None. params: a tuple, an array for each row. type: NumPy's number of the dtype. Writes the
 * addresses of gradients into the table, and returns what is to be done:
 *
 *   0   nothing: all is where it was
 *   1   some gradients are elsewhere: they may overlap what is written
 *   2   a gradient is not plain, or not like its parameter; the table may be half written
 *   3   so is a parameter, or it is not where the table says
 */
static PyObject *take_gradients(PyObject *module, PyObject *const *given, Py_ssize_t count)
{
    (void)module;
    PyArrayObject *table = count == 5 && PyArray_Check(given[3]) ? (PyArrayObject *)given[3] : NULL;
    if (!table || !PyTuple_Check(given[0]) || !PyTuple_Check(given[1]) || !is_of(table, NPY_INT64) ||
        PyArray_NDIM(table) != 2 || PyArray_DIM(table, 1) != FDL_TABLE_COLUMNS ||
        PyArray_DIM(table, 0) != PyTuple_Size(given[1]) ||
        (given[2] != Py_None && (!PyArray_Check(given[2]) || !is_of((PyArrayObject *)given[2], NPY_INT64) ||
                                 PyArray_SIZE((PyArrayObject *)given[2]) != PyTuple_Size(given[1])))) {
        PyErr_SetString(PyExc_TypeError, "take_gradients: expected a tuple, a tuple, positions, a table, and a type");
        return NULL;
    }
    const int64_t *places = given[2] == Py_None ? NULL : PyArray_DATA((PyArrayObject *)given[2]);
    int64_t *row = PyArray_DATA(table), begin = 0;
    const int type = (int)PyLong_AsLong(given[4]);
    long found = 0;
    for (Py_ssize_t i = 0; i < PyTuple_Size(given[1]); i++, begin = row[FDL_TABLE_END], row += FDL_TABLE_COLUMNS) {
        PyArrayObject *param = (PyArrayObject *)PyTuple_GetItem(given[1], i);
        PyObject *item = PyTuple_GetItem(given[0], places ? (Py_ssize_t)places[i] : i);
        if (!item)
            return NULL;
        if (!is_of(param, type) || !PyArray_ISWRITEABLE(param) || PyArray_SIZE(param) != row[FDL_TABLE_END] - begin ||
            (int64_t)(intptr_t)PyArray_DATA(param) != row[FDL_TABLE_PARAM])
            return PyLong_FromLong(3);
        PyArrayObject *grad = (PyArrayObject *)item;
        if (item != Py_None && !(PyArray_CheckExact(item) && is_of(grad, type) && PyArray_SAMESHAPE(grad, param)))
            return PyLong_FromLong(2);
        const int64_t address = item == Py_None ? 0 : (int64_t)(intptr_t)PyArray_DATA(grad);
        found = address == row[FDL_TABLE_GRAD] ? found : 1;
        row[FDL_TABLE_GRAD] = address;
    }
    return PyLong_FromLong(found);
}

/* find_overlap(table, starts, ends, itemsize): the first row of a table whose gradient shares memory with one of the
 * ranges [starts[j], ends[j]), which are in order and apart; -1 if none does. */
static PyObject *find_overlap(PyObject *module, PyObject *const *given, Py_ssize_t count)
{
    (void)module;
    PyArrayObject *arrays[3];
    for (int i = 0; i < 3; i++) {
        arrays[i] = count == 4 && PyArray_Check(given[i]) ? (PyArrayObject *)given[i] : NULL;
        if (!arrays[i] || !is_of(arrays[i], NPY_INT64) || PyArray_NDIM(arrays[i]) != (i == 0 ? 2 : 1)) {
            PyErr_SetString(PyExc_TypeError, "find_overlap: expected a table, starts, ends, and a size");
            return NULL;
        }
    }
    const int64_t itemsize = PyLong_AsLongLong(given[3]), ranges = PyArray_SIZE(arrays[1]);
    const int64_t *row = PyArray_DATA(arrays[0]), *starts = PyArray_DATA(arrays[1]), *ends = PyArray_DATA(arrays[2]);
    int64_t begin = 0;
    for (npy_intp i = 0; i < PyArray_DIM(arrays[0], 0); i++, begin = row[FDL_TABLE_END], row += FDL_TABLE_COLUMNS) {
        const int64_t grad = row[FDL_TABLE_GRAD], end = grad + (row[FDL_TABLE_END] - begin) * itemsize;
        int64_t low = 0, high = ranges; /* how many ranges begin before the gradient ends */
        while (low < high) {
            const int64_t middle = low + (high - low) / 2;
            if (starts[middle] < end)
                low = middle + 1;
            else
                high = middle;
        }
        if (grad != 0 && end > grad && low > 0 && ends[low - 1] > grad)
            return PyLong_FromSsize_t(i);
    }
    return PyLong_FromLong(-1);
}

/* ---- programs ---- */

enum { MOST_ADDRESSES = 32 };

static int64_t address_of(PyArrayObject *array) { return (int64_t)(intptr_t)PyArray_DATA(array); }

/* Whether x is an array like `wanted`, which is writable if the program writes to it, and not in the program's block. */
static bool is_bound(PyObject *x, PyArrayObject *wanted, PyArrayObject *block)
{
    if (!PyArray_CheckExact(x))
        return false;
    PyArrayObject *array = (PyArrayObject *)x;
    const int64_t begin = address_of(array), end = begin + PyArray_NBYTES(array), block_begin = address_of(block);
    return PyArray_DESCR(array) == PyArray_DESCR(wanted) && PyArray_IS_C_CONTIGUOUS(array) &&
           PyArray_SAMESHAPE(array, wanted) && (!PyArray_ISWRITEABLE(wanted) || PyArray_ISWRITEABLE(array)) &&
           (end <= block_begin || block_begin + PyArray_SIZE(block) <= begin);
}

/* A result: an int, the number of a new array, or -1 less that of an argument; (that number, type), what the new array
 * holds; or (object,). */
static PyObject *result_of(PyObject *kind, PyObject *const *given, PyObject *const *made)
{
    if (PyLong_Check(kind)) {
        const long i = PyLong_AsLong(kind);
        return Py_NewRef(i < 0 ? given[-1 - i] : made[i]);
    }
    if (PyTuple_Size(kind) == 1)
        return Py_NewRef(PyTuple_GetItem(kind, 0));
    const void *at = PyArray_DATA((PyArrayObject *)made[PyLong_AsLong(PyTuple_GetItem(kind, 0))]);
    const bool single = PyLong_AsLong(PyTuple_GetItem(kind, 1)) == NPY_FLOAT;
    return PyFloat_FromDouble(single ? (double)*(const float *)at : *(const double *)at);
}

/* A program (fastdl/program.py) with arguments that are as they should be; everything else is left to `slow`, its
 * complete form. self: (code, arrays like the arguments, arrays like the new ones, the results, whether that is one,
 * the block, whether other threads may run, slow, what raises a status) */
static PyObject *run_program(PyObject *self, PyObject *const *given, Py_ssize_t count)
{
    PyObject *wanted = PyTuple_GetItem(self, 1), *like = PyTuple_GetItem(self, 2), *slow = PyTuple_GetItem(self, 7);
    PyArrayObject *block = (PyArrayObject *)PyTuple_GetItem(self, 5);
    const Py_ssize_t arrays = PyTuple_Size(wanted), results = PyTuple_Size(like);
    bool fine = !recorder && count == arrays && arrays + results <= MOST_ADDRESSES, writes = false;
    int64_t addresses[MOST_ADDRESSES];
    for (Py_ssize_t i = 0; fine && i < arrays; i++) {
        PyArrayObject *one = (PyArrayObject *)PyTuple_GetItem(wanted, i);
        fine = is_bound(given[i], one, block);
        writes = writes || PyArray_ISWRITEABLE(one);
        addresses[i] = fine ? address_of((PyArrayObject *)given[i]) : 0;
    }
    if (!fine || writes)
        return in_full(slow, given, count);
    PyObject *made[MOST_ADDRESSES], *result = NULL;
    Py_ssize_t ready = 0;
    for (; ready < results; ready++) {
        PyArrayObject *one = (PyArrayObject *)PyTuple_GetItem(like, ready);
        made[ready] = new_array(one, PyArray_NDIM(one), PyArray_DIMS(one));
        if (!made[ready])
            goto end;
        addresses[arrays + ready] = address_of((PyArrayObject *)made[ready]);
    }
    int64_t *code = PyArray_DATA((PyArrayObject *)PyTuple_GetItem(self, 0));
    PyThreadState *others = PyTuple_GetItem(self, 6) == Py_True ? PyEval_SaveThread() : NULL;
    const int status = fdl_program_run(code, addresses);
    if (others)
        PyEval_RestoreThread(others);
    PyObject *kinds = PyTuple_GetItem(self, 3);
    if (status != FDL_OK) {
        result = PyObject_CallFunction(PyTuple_GetItem(self, 8), "i", status);
    } else if (PyTuple_GetItem(self, 4) == Py_True) {
        result = result_of(PyTuple_GetItem(kinds, 0), given, made);
    } else {
        result = PyTuple_New(PyTuple_Size(kinds));
        for (Py_ssize_t i = 0; result && i < PyTuple_Size(kinds); i++) {
            PyObject *item = result_of(PyTuple_GetItem(kinds, i), given, made);
            if (!item)
                Py_CLEAR(result);
            else
                PyTuple_SetItem(result, i, item);
        }
    }
end:
    while (ready > 0)
        Py_DECREF(made[--ready]);
    return result;
}

static PyMethodDef run_program_method = {"program", (PyCFunction)(void (*)(void))run_program, METH_FASTCALL, NULL};

/* program_runner(tuple): run_program of it. */
static PyObject *program_runner(PyObject *module, PyObject *self)
{
    (void)module;
    return PyCFunction_New(&run_program_method, self);
}

/* ---- what layers save ---- */

/* sample(a): a number from the bits of three elements of an array of numbers, enough to see that it was filled with
 * others; None for an array without elements, or of something else. */
static PyObject *sample(PyObject *module, PyObject *x)
{
    (void)module;
    PyArrayObject *a = PyArray_Check(x) ? (PyArrayObject *)x : NULL;
    const npy_intp size = a ? PyArray_SIZE(a) : 0, itemsize = a ? (npy_intp)PyArray_ITEMSIZE(a) : 0;
    if (size == 0 || itemsize > 8 || !(PyArray_ISNUMBER(a) || PyArray_ISBOOL(a)))
        return Py_NewRef(Py_None);
    const npy_intp places[] = {size / 5, size / 2, size / 5 * 4};
    uint64_t hash = 0;
    for (int i = 0; i < 3; i++) {
        npy_intp rest = places[i], offset = 0;
        for (int d = PyArray_NDIM(a) - 1; d >= 0; d--) {
            offset += rest % PyArray_DIM(a, d) * PyArray_STRIDE(a, d);
            rest /= PyArray_DIM(a, d);
        }
        uint64_t bits = 0;
        memcpy(&bits, (const char *)PyArray_DATA(a) + offset, (size_t)itemsize);
        hash = join(hash, bits);
    }
    return PyLong_FromUnsignedLongLong(hash);
}

/* ---- the module ---- */

static PyMethodDef functions[] = {
    CALL_TABLE{"shortcut", shortcut, METH_O, NULL},
    {"remember", remember, METH_O, NULL},
    {"take_gradients", (PyCFunction)(void (*)(void))take_gradients, METH_FASTCALL, NULL},
    {"find_overlap", (PyCFunction)(void (*)(void))find_overlap, METH_FASTCALL, NULL},
    {"sample", sample, METH_O, NULL},
    {"program_runner", program_runner, METH_O, NULL},
    {"set_recorder", set_recorder, METH_O, NULL},
    {"get_recorder", get_recorder, METH_NOARGS, NULL},
    {"set_backend", set_backend, METH_O, NULL},
    {"set_thread_backend", set_thread_backend, METH_O, NULL},
    {"get_backend", get_backend, METH_NOARGS, NULL},
    {"get_diversion", get_diversion, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int set_up(PyObject *module)
{
    (void)module;
    if (PyArray_ImportNumPyAPI() < 0)
        return -1;
    float32 = PyArray_DescrFromType(NPY_FLOAT);
    float64 = PyArray_DescrFromType(NPY_DOUBLE);
    int64 = PyArray_DescrFromType(NPY_INT64);
    return float32 && float64 && int64 ? 0 : -1;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)set_up}, {0, NULL}};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "fastdl._call", NULL, 0, functions, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__call(void) { return PyModuleDef_Init(&definition); }
