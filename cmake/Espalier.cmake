# How every library, program and test of the project is compiled.

add_library(espalier_options INTERFACE)
target_compile_options(espalier_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Werror)
target_include_directories(espalier_options INTERFACE ${CMAKE_SOURCE_DIR})

# One precompiled torch/torch.h (half a minute, once) serves every target that uses torch; they must
# all be compiled with the flags of this one, or the compiler ignores it.
function(espalier_torch_header)
  if(NOT TARGET espalier_torch_header)
    file(WRITE ${CMAKE_BINARY_DIR}/torch_header.cpp "")
    add_library(espalier_torch_header STATIC ${CMAKE_BINARY_DIR}/torch_header.cpp)
    target_link_libraries(espalier_torch_header PRIVATE espalier_options espalier::torch)
    target_precompile_headers(espalier_torch_header PRIVATE <torch/torch.h>)
  endif()
endfunction()

# espalier_library(NAME SOURCES a.cpp ... [LINKS targets...] [PRIVATE_LINKS targets...] [TORCH])
# TORCH: the sources include torch/torch.h, so they use the shared precompiled header.
function(espalier_library name)
  cmake_parse_arguments(arg "TORCH" "" "SOURCES;LINKS;PRIVATE_LINKS" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_link_libraries(${name} PUBLIC ${arg_LINKS} PRIVATE espalier_options ${arg_PRIVATE_LINKS})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  if(arg_TORCH)
    espalier_torch_header()
    target_link_libraries(${name} PUBLIC espalier::torch)
    target_precompile_headers(${name} REUSE_FROM espalier_torch_header)
  endif()
endfunction()

# espalier_program(NAME SOURCES ... LINKS ... [TORCH])
function(espalier_program name)
  cmake_parse_arguments(arg "TORCH" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE espalier_options ${arg_LINKS})
  if(arg_TORCH)
    espalier_torch_header()
    target_link_libraries(${name} PRIVATE espalier::torch)
    target_precompile_headers(${name} REUSE_FROM espalier_torch_header)
  endif()
endfunction()

# espalier_test(NAME SOURCES ... LINKS ... [LABELS ...] [TORCH]): one GoogleTest program per folder.
function(espalier_test name)
  cmake_parse_arguments(arg "TORCH" "" "SOURCES;LINKS;LABELS" ${ARGN})
  if(arg_TORCH)
    espalier_program(${name} SOURCES ${arg_SOURCES} LINKS ${arg_LINKS} GTest::gtest_main TORCH)
  else()
    espalier_program(${name} SOURCES ${arg_SOURCES} LINKS ${arg_LINKS} GTest::gtest_main)
  endif()
  target_compile_definitions(${name} PRIVATE ESPALIER_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  if(NOT arg_LABELS)
    set(arg_LABELS unit)
  endif()
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
                       PROPERTIES LABELS "${arg_LABELS}" TIMEOUT 300)
endfunction()
