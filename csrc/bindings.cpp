// The only file that knows Python. Every registered kernel becomes a function
//   name(lane, *arguments)
// of the module, lane being the thread count on the CPU, the stream's address on CUDA, and the seed
// of the threads' order where CUDA's kernels run on the host (host_cuda/). Tensors arrive through
// the exchange table of their type, as DLPack capsules, or through __dlpack__().
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "core/dlpack.h"
#include "core/parallel.h"
#include "core/registry.h"

#ifdef DLACCEL_CUDA_MODULE
#include "core/cuda_device.h"
#endif

namespace py = pybind11;

namespace dlaccel {
namespace {

[[noreturn]] void raise_current() { throw py::error_already_set(); }

const dlpack::ExchangeApi* exchange_api(PyObject* object) {
  static PyTypeObject* cached_type = nullptr;  // guarded by the GIL
  static const dlpack::ExchangeApi* cached = nullptr;
  PyTypeObject* type = Py_TYPE(object);
  if (type == cached_type) return cached;
  const dlpack::ExchangeApi* api = nullptr;
  auto capsule = py::reinterpret_steal<py::object>(
      PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "__dlpack_c_exchange_api__"));
  if (!capsule) {
    PyErr_Clear();
  } else if (PyCapsule_CheckExact(capsule.ptr())) {
    api = static_cast<const dlpack::ExchangeApi*>(
        PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
    if (!api) raise_current();
    if (api->version.major != 1) api = nullptr;
  }
  Py_INCREF(type);  // a cached address must not be reused by another type
  Py_XDECREF(cached_type);
  cached_type = type;
  cached = api;
  return api;
}

DType dtype_of(dlpack::DataType type) {
  if (type.lanes == 1) {
    if (type.code == dlpack::kFloat && type.bits == 64) return DType::f64;
    if (type.code == dlpack::kFloat && type.bits == 32) return DType::f32;
    if (type.code == dlpack::kFloat && type.bits == 16) return DType::f16;
    if (type.code == dlpack::kBfloat && type.bits == 16) return DType::bf16;
    if (type.code == dlpack::kInt && type.bits == 64) return DType::i64;
    if (type.code == dlpack::kInt && type.bits == 32) return DType::i32;
  }
  throw py::type_error("dtype must be float64, float32, bfloat16, float16, int64 or int32.");
}

View view_of(const dlpack::Tensor& tensor) {
  View view;
  view.dtype = dtype_of(tensor.dtype);
#ifdef DLACCEL_CUDA_MODULE
  require(tensor.device.type == dlpack::kCuda, "tensor must lie on a CUDA device.");
  view.device = tensor.device.id;
#else
  require(tensor.device.type == dlpack::kCpu, "tensor must lie on the CPU.");
#endif
  require(tensor.ndim <= kMaxAxes, "tensor must have at most 12 axes.");
  view.ndim = tensor.ndim;
  int64_t stride = 1;
  for (int i = tensor.ndim - 1; i >= 0; --i) {
    view.shape[i] = tensor.shape[i];
    view.strides[i] = tensor.strides ? tensor.strides[i] : stride;
    stride *= tensor.shape[i];
  }
  view.data = static_cast<char*>(tensor.data);
  require(view.data || view.numel() == 0, "tensor must have storage.");
  if (view.data) view.data += tensor.byte_offset;
  return view;
}

View view_of(PyObject* object, std::vector<py::object>& keep) {
  if (const auto* api = exchange_api(object)) {
    dlpack::Tensor tensor;
    if (api->tensor_from_object(object, &tensor) != 0) raise_current();
    return view_of(tensor);
  }
  py::object capsule = py::reinterpret_borrow<py::object>(object);
  if (!PyCapsule_CheckExact(object)) {
    if (!py::hasattr(capsule, "__dlpack__"))
      throw py::type_error("a kernel takes tensors and arrays that speak DLPack, got " +
                           std::string(Py_TYPE(object)->tp_name) + ".");
    capsule = capsule.attr("__dlpack__")();
    keep.push_back(capsule);
  }
  const auto* managed =
      static_cast<const dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
  if (!managed) raise_current();
  return view_of(managed->tensor);
}

void parse(const Entry& entry, PyObject* const* objects, int count, Argument* arguments,
           std::vector<py::object>& keep) {
  for (int i = 0; i < count; ++i) {
    switch (entry.kinds[i]) {
      case Kind::optional:
        if (objects[i] == Py_None) break;
        [[fallthrough]];
      case Kind::tensor: arguments[i].view = view_of(objects[i], keep); break;
      case Kind::integer: arguments[i].integer = PyLong_AsLongLong(objects[i]); break;
      case Kind::real: arguments[i].real = PyFloat_AsDouble(objects[i]); break;
    }
    if (PyErr_Occurred()) raise_current();
  }
}

// A few microseconds of work: handing Python's lock over and back would add to them.
bool is_small(const Argument& first) { return first.view && first.view->numel() <= 8192; }

PyObject* call(PyObject* self, PyObject* const* objects, Py_ssize_t count) {
  try {
    const auto& entry = *static_cast<const Entry*>(PyCapsule_GetPointer(self, nullptr));
    int required = entry.count;  // optional tensors at the end may be left out
    while (required > 0 && entry.kinds[required - 1] == Kind::optional) --required;
    if (count <= required || count > entry.count + 1)
      throw py::type_error(std::string(entry.name) + " takes " + std::to_string(entry.count + 1) +
                           " arguments, got " + std::to_string(count) + ".");
    Lane lane;
    const long long where = PyLong_AsLongLong(objects[0]);
    if (PyErr_Occurred()) raise_current();
    std::vector<py::object> keep;
    std::array<Argument, kMaxArguments> arguments;
    parse(entry, objects + 1, int(count) - 1, arguments.data(), keep);
#if defined(DLACCEL_CUDA_MODULE)
    lane.stream = reinterpret_cast<void*>(where);
    const DeviceGuard guard(arguments.data(), entry.count);
#elif defined(DLACCEL_HOST_CUDA)
    lane.stream = reinterpret_cast<void*>(where);
#else
    lane.threads = int(where);
#endif
    if (is_small(arguments[0])) {
      entry.call(arguments.data(), lane);
    } else {
      const py::gil_scoped_release release;
      entry.call(arguments.data(), lane);
    }
    Py_RETURN_NONE;
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::type_error& error) {
    PyErr_SetString(PyExc_TypeError, error.what());
  } catch (const std::invalid_argument& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

void add_kernels(py::module_& module) {
  for (const Entry* entry = registry_head(); entry; entry = entry->next) {
    auto* method = new PyMethodDef{
        // lives as long as the module, that is, for ever
        entry->name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&call)),
        METH_FASTCALL, nullptr};
    const py::capsule self(entry, static_cast<const char*>(nullptr));
    module.add_object(entry->name, py::reinterpret_steal<py::object>(
                                       PyCFunction_NewEx(method, self.ptr(), module.ptr())));
  }
}

py::dict build_info() {
  py::dict info;
  info["compiler"] = __VERSION__;
#if defined(DLACCEL_CUDA_MODULE)
  info["cuda"] = cuda_runtime_version();
  info["architectures"] = DLACCEL_CUDA_ARCHITECTURES;
  info["driver"] = cuda_driver_version();
  info["driver_needed"] = minimum_driver();
  info["devices"] = cuda_device_count();
#elif defined(DLACCEL_HOST_CUDA)
  info["host_cuda"] = true;
#else
  info["vector_bytes"] = DL_VECTOR_BYTES;
#ifdef _OPENMP
  info["openmp"] = _OPENMP;
#else
  info["openmp"] = py::none();
#endif
#endif
  return info;
}

}  // namespace
}  // namespace dlaccel

PYBIND11_MODULE(DLACCEL_MODULE, module) {
  dlaccel::watch_forks();
  dlaccel::add_kernels(module);
  module.def("build_info", &dlaccel::build_info);
}
