# The CUDA kernels' own sources as C++ (csrc/host_cuda/): a module that takes CPU tensors, and a
# program with planted faults that the tests expect to be caught. Neither is installed.
set(host_kernels)
foreach(kernel ${op_kernels})
  get_filename_component(name ${kernel} NAME)
  set(unit ${CMAKE_CURRENT_BINARY_DIR}/host_cuda/${name}.cpp)
  file(CONFIGURE OUTPUT ${unit} CONTENT "#include \"${kernel}\"\n")
  list(APPEND host_kernels ${unit})
endforeach()

pybind11_add_module(_cuda_host MODULE NO_EXTRAS csrc/bindings.cpp ${host_kernels})
target_link_libraries(_cuda_host PRIVATE dlaccel_options)
# -O1: ten formulas in each of some sixty kernels, each run a few times. Kernels read any type by words.
target_compile_options(_cuda_host PRIVATE -O1 -fno-strict-aliasing)
target_compile_definitions(_cuda_host PRIVATE DLACCEL_MODULE=_cuda_host DLACCEL_HOST_CUDA)
set_target_properties(_cuda_host PROPERTIES
  CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)

set(faults ${CMAKE_CURRENT_BINARY_DIR}/host_cuda/faults.cu.cpp)
file(CONFIGURE OUTPUT ${faults} CONTENT "#include \"${CMAKE_CURRENT_SOURCE_DIR}/csrc/tests/faults.cu\"\n")
add_executable(host_cuda_faults ${faults})
target_compile_definitions(host_cuda_faults PRIVATE DLACCEL_HOST_CUDA)
target_compile_options(host_cuda_faults PRIVATE
  -Wall -Wextra -O1 -fno-strict-aliasing -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined)
target_link_options(host_cuda_faults PRIVATE -fsanitize=address,undefined)
