# The CUDA module: static runtime, so that it imports on machines without a GPU or driver.
set(CMAKE_CUDA_ARCHITECTURES ${DLACCEL_CUDA_ARCHITECTURES})
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
enable_language(CUDA)

pybind11_add_module(_cuda MODULE NO_EXTRAS csrc/bindings.cpp ${op_kernels})
target_link_libraries(_cuda PRIVATE dlaccel_options)
# The host's pass over a .cu knows no "#pragma unroll". Two architectures compile at a time.
target_compile_options(_cuda PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr --extended-lambda --threads=2
    -Xcompiler=-Wall,-Wno-unknown-pragmas>
  $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${DLACCEL_WERROR}>>:-Werror=all-warnings>)
string(REPLACE ";" " " architectures "${DLACCEL_CUDA_ARCHITECTURES}")
target_compile_definitions(_cuda PRIVATE
  DLACCEL_MODULE=_cuda DLACCEL_CUDA_MODULE "DLACCEL_CUDA_ARCHITECTURES=\"${architectures}\"")
target_include_directories(_cuda PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
set_target_properties(_cuda PROPERTIES
  CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
  CUDA_RUNTIME_LIBRARY Static)
install(TARGETS _cuda LIBRARY DESTINATION dlaccel)
