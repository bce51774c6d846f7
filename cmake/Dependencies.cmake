# Finds what the build needs, on a fresh Debian with launch/bootstrap's .deps or on a cluster with its own.

find_package(Threads REQUIRED)
find_package(LibTorch REQUIRED)

find_package(MPI REQUIRED COMPONENTS C)

find_path(FMT_INCLUDE_DIR fmt/core.h PATHS /usr/include NO_DEFAULT_PATH)
find_path(FMT_INCLUDE_DIR fmt/core.h)
find_package(spdlog REQUIRED)
# torch ships a newer fmt in its include folder; the one that spdlog was built with has to come first.
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/fmt9)
file(CREATE_LINK ${FMT_INCLUDE_DIR}/fmt ${CMAKE_BINARY_DIR}/fmt9/fmt SYMBOLIC)
target_include_directories(espalier_options BEFORE INTERFACE ${CMAKE_BINARY_DIR}/fmt9)

find_package(nlohmann_json 3.11 REQUIRED)
find_package(PNG REQUIRED)
find_package(JPEG REQUIRED)
find_package(ZLIB REQUIRED)
find_package(LibArchive REQUIRED)
find_package(OpenSSL 3 REQUIRED)
find_package(Boost 1.74 REQUIRED)
find_package(CLI11 REQUIRED)

# Header-only or single-library packages without CMake files of their own in Debian 12.
find_path(TOMLPLUSPLUS_INCLUDE_DIR toml++/toml.h REQUIRED)
find_path(XXHASH_INCLUDE_DIR xxhash.h REQUIRED)
find_library(XXHASH_LIBRARY xxhash REQUIRED)
find_path(PCRE2_INCLUDE_DIR pcre2.h REQUIRED)
find_library(PCRE2_LIBRARY pcre2-8 REQUIRED)
find_path(SENTENCEPIECE_INCLUDE_DIR sentencepiece_processor.h REQUIRED)
find_library(SENTENCEPIECE_LIBRARY sentencepiece REQUIRED)
find_path(UTF8PROC_INCLUDE_DIR utf8proc.h REQUIRED)
find_library(UTF8PROC_LIBRARY utf8proc REQUIRED)
find_path(WEBP_INCLUDE_DIR webp/encode.h REQUIRED)
find_library(WEBP_LIBRARY webp REQUIRED)
find_package(Freetype REQUIRED)
# Where Debian and Fedora have it, or below a prefix such as .deps/sysroot/usr.
string(REPLACE ":" ";" font_folders "${CMAKE_PREFIX_PATH};$ENV{CMAKE_PREFIX_PATH};/usr")
list(TRANSFORM font_folders APPEND /share/fonts)
find_file(ESPALIER_FONT DejaVuSans.ttf REQUIRED
          PATHS ${font_folders} PATH_SUFFIXES truetype/dejavu dejavu-sans-fonts NO_CMAKE_FIND_ROOT_PATH)

function(espalier_external name include_dir library)
  add_library(espalier::${name} INTERFACE IMPORTED)
  if(NOT include_dir STREQUAL "/usr/include")
    target_include_directories(espalier::${name} SYSTEM INTERFACE ${include_dir})
  endif()
  if(library)
    target_link_libraries(espalier::${name} INTERFACE ${library})
  endif()
endfunction()
espalier_external(tomlplusplus ${TOMLPLUSPLUS_INCLUDE_DIR} "")
espalier_external(xxhash ${XXHASH_INCLUDE_DIR} ${XXHASH_LIBRARY})
espalier_external(pcre2 ${PCRE2_INCLUDE_DIR} ${PCRE2_LIBRARY})
espalier_external(sentencepiece ${SENTENCEPIECE_INCLUDE_DIR} ${SENTENCEPIECE_LIBRARY})
espalier_external(utf8proc ${UTF8PROC_INCLUDE_DIR} ${UTF8PROC_LIBRARY})
espalier_external(webp ${WEBP_INCLUDE_DIR} ${WEBP_LIBRARY})

# Arrow C++ reads CSV and Parquet: the one in pyarrow's wheel, or the system's; without it those two are refused.
find_path(ARROW_INCLUDE_DIR parquet/arrow/reader.h HINTS ${CMAKE_SOURCE_DIR}/.deps/python/pyarrow/include
          NO_CMAKE_FIND_ROOT_PATH)
set(arrow_folder ${CMAKE_SOURCE_DIR}/.deps/python/pyarrow)
file(GLOB arrow_names RELATIVE ${arrow_folder} ${arrow_folder}/libarrow.so.*)
file(GLOB parquet_names RELATIVE ${arrow_folder} ${arrow_folder}/libparquet.so.*)
find_library(ARROW_LIBRARY NAMES arrow ${arrow_names} HINTS ${arrow_folder} NO_CMAKE_FIND_ROOT_PATH)
find_library(PARQUET_LIBRARY NAMES parquet ${parquet_names} HINTS ${arrow_folder} NO_CMAKE_FIND_ROOT_PATH)
if(ARROW_INCLUDE_DIR AND ARROW_LIBRARY AND PARQUET_LIBRARY)
  espalier_external(arrow ${ARROW_INCLUDE_DIR} "${PARQUET_LIBRARY};${ARROW_LIBRARY}")
  message(STATUS "Arrow, for CSV and Parquet: ${ARROW_LIBRARY}")
else()
  message(STATUS "Arrow, for CSV and Parquet: none")
endif()

# NCCL backend: needs a LibTorch with CUDA, nccl.h and cuda_runtime_api.h; no nvcc, no driver.
if(ESPALIER_NCCL)
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${LIBTORCH_SITE_PACKAGES}/nvidia/nccl/include NO_CMAKE_FIND_ROOT_PATH)
  find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2 HINTS ${LIBTORCH_SITE_PACKAGES}/nvidia/nccl/lib)
  # cuda_runtime_api.h includes this file, which some wheels of the runtime come without.
  find_path(CUDA_RUNTIME_INCLUDE_DIR crt/host_defines.h
            HINTS ${LIBTORCH_SITE_PACKAGES}/nvidia/cu13/include /usr/local/cuda/include)
  find_library(CUDA_RUNTIME_LIBRARY NAMES cudart libcudart.so.13
               HINTS ${LIBTORCH_SITE_PACKAGES}/nvidia/cu13/lib /usr/local/cuda/lib64)
  if(LIBTORCH_HAS_CUDA AND NCCL_INCLUDE_DIR AND NCCL_LIBRARY AND CUDA_RUNTIME_INCLUDE_DIR
     AND CUDA_RUNTIME_LIBRARY)
    espalier_external(nccl ${NCCL_INCLUDE_DIR} ${NCCL_LIBRARY})
    espalier_external(cuda_runtime ${CUDA_RUNTIME_INCLUDE_DIR} ${CUDA_RUNTIME_LIBRARY})
  else()
    set(ESPALIER_NCCL OFF)
  endif()
endif()
if(ESPALIER_REQUIRE_NCCL AND NOT ESPALIER_NCCL)
  message(FATAL_ERROR "The NCCL backend needs a LibTorch with CUDA, nccl.h, libnccl, cuda_runtime_api.h and libcudart.")
endif()
message(STATUS "NCCL backend: ${ESPALIER_NCCL}")
