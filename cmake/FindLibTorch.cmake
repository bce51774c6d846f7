# Finds LibTorch 2.11: ESPALIER_TORCH (a torch folder; CMake or environment variable), .deps/torch (the one
# that was named to launch/bootstrap), Torch_DIR / CMAKE_PREFIX_PATH, .deps/python/torch (the one that
# launch/bootstrap downloaded), or the torch of the active Python environment. Defines espalier::torch, LIBTORCH_HAS_CUDA,
# LIBTORCH_SITE_PACKAGES (where the nvidia wheels lie beside it).
#
# torch's own package file is not used: it probes for a GPU and wants nvcc, and this project compiles no
# CUDA source of its own.

set(ESPALIER_TORCH "$ENV{ESPALIER_TORCH}" CACHE PATH "Folder of LibTorch 2.11 (has include/ and lib/)")

set(_torch_candidates)
if(ESPALIER_TORCH)
  list(APPEND _torch_candidates ${ESPALIER_TORCH})
else()
  list(APPEND _torch_candidates ${CMAKE_SOURCE_DIR}/.deps/torch)
  if(Torch_DIR)
    list(APPEND _torch_candidates ${Torch_DIR}/../../..)
  endif()
  string(REPLACE ":" ";" _prefixes "${CMAKE_PREFIX_PATH};$ENV{CMAKE_PREFIX_PATH}")
  foreach(prefix ${_prefixes})
    list(APPEND _torch_candidates ${prefix} ${prefix}/../..)
  endforeach()
  list(APPEND _torch_candidates ${CMAKE_SOURCE_DIR}/.deps/python/torch)
  execute_process(COMMAND python3 -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
                  OUTPUT_VARIABLE _torch_of_python OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(_torch_of_python)
    list(APPEND _torch_candidates ${_torch_of_python})
  endif()
endif()

foreach(candidate ${_torch_candidates})
  if(EXISTS ${candidate}/include/torch/version.h OR EXISTS ${candidate}/include/torch/headeronly/version.h)
    get_filename_component(LIBTORCH_ROOT ${candidate} REALPATH)
    break()
  endif()
endforeach()
if(NOT LIBTORCH_ROOT)
  message(FATAL_ERROR "LibTorch 2.11 not found. Run launch/bootstrap, or pass -DESPALIER_TORCH=<folder of torch>.")
endif()

set(_version_header ${LIBTORCH_ROOT}/include/torch/headeronly/version.h)
if(NOT EXISTS ${_version_header})
  set(_version_header ${LIBTORCH_ROOT}/include/torch/version.h)
endif()
file(STRINGS ${_version_header} _version_lines REGEX "#define TORCH_VERSION_(MAJOR|MINOR|PATCH)")
string(REGEX REPLACE ".*MAJOR ([0-9]+).*MINOR ([0-9]+).*PATCH ([0-9]+).*" "\\1.\\2.\\3"
       LIBTORCH_VERSION "${_version_lines}")
if(NOT LIBTORCH_VERSION MATCHES "^2\\.11\\.")
  message(FATAL_ERROR "LibTorch in ${LIBTORCH_ROOT} is version ${LIBTORCH_VERSION}; Espalier needs 2.11.")
endif()

get_filename_component(LIBTORCH_SITE_PACKAGES ${LIBTORCH_ROOT} DIRECTORY)
set(_torch_libraries ${LIBTORCH_ROOT}/lib/libtorch.so ${LIBTORCH_ROOT}/lib/libtorch_cpu.so
                     ${LIBTORCH_ROOT}/lib/libc10.so)
set(LIBTORCH_HAS_CUDA OFF)
if(EXISTS ${LIBTORCH_ROOT}/lib/libtorch_cuda.so)
  set(LIBTORCH_HAS_CUDA ON)
  list(APPEND _torch_libraries ${LIBTORCH_ROOT}/lib/libc10_cuda.so)
endif()

add_library(espalier::torch INTERFACE IMPORTED GLOBAL)
# The first folder answers <torch/torch.h> with the part of it that the project uses.
target_include_directories(espalier::torch SYSTEM INTERFACE
  ${CMAKE_SOURCE_DIR}/cmake/torch ${LIBTORCH_ROOT}/include ${LIBTORCH_ROOT}/include/torch/csrc/api/include)
target_link_libraries(espalier::torch INTERFACE ${_torch_libraries} Threads::Threads)
# LibTorch exports some functions of the std::filesystem it was built with (remove_all among them, which
# calls a null pointer here). Symbols are taken from the library that comes first: the compiler's own.
target_link_options(espalier::torch INTERFACE "LINKER:--push-state,--no-as-needed,-lstdc++,--pop-state")
if(LIBTORCH_HAS_CUDA)
  # Nothing of ours names a symbol of libtorch_cuda, which registers the CUDA kernels when it is loaded.
  target_link_options(espalier::torch INTERFACE
    "LINKER:--push-state,--no-as-needed,${LIBTORCH_ROOT}/lib/libtorch_cuda.so,--pop-state"
    "LINKER:--allow-shlib-undefined")
endif()
target_compile_options(espalier::torch INTERFACE -Wno-psabi)
message(STATUS "LibTorch ${LIBTORCH_VERSION} in ${LIBTORCH_ROOT} (CUDA: ${LIBTORCH_HAS_CUDA})")
