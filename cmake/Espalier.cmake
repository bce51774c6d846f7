# How every library, program and test of the project is compiled.

add_library(espalier_options INTERFACE)
target_compile_options(espalier_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Werror)
target_include_directories(espalier_options INTERFACE ${CMAKE_SOURCE_DIR})
if(ESPALIER_SANITIZE)
  target_compile_options(espalier_options INTERFACE -fsanitize=${ESPALIER_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(espalier_options INTERFACE -fsanitize=${ESPALIER_SANITIZE})
endif()

# One precompiled torch/torch.h (ours, cmake/torch; twenty seconds, once) serves every target that uses torch; they must
# all be compiled with the flags of this one, or the compiler ignores it.
function(espalier_torch_header)
  if(NOT TARGET espalier_torch_header)
    # Unlike WRITE, leaves a file that is there alone: nothing is built again after a new configure.
    file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/torch_header.cpp CONTENT "")
    add_library(espalier_torch_header STATIC ${CMAKE_BINARY_DIR}/torch_header.cpp)
    target_link_libraries(espalier_torch_header PRIVATE espalier_options espalier::torch)
    target_precompile_headers(espalier_torch_header PRIVATE <torch/torch.h>)
  endif()
endfunction()

# Sets OUT to whether FILE, or a header of the project that it includes, includes one of LibTorch's.
function(espalier_sees_torch file out)
  get_property(answer GLOBAL PROPERTY espalier_sees_torch_${file})
  if("${answer}" STREQUAL "")
    set(answer no)
    set_property(GLOBAL PROPERTY espalier_sees_torch_${file} no)  # should the headers include each other
    file(STRINGS ${file} lines REGEX "^#include [<\"](torch|ATen|c10|comm|data|models|trainer|launch|tests)/")
    foreach(line ${lines})
      if(line MATCHES "<(torch|ATen|c10)/" AND NOT line MATCHES "torch/version.h")
        set(answer yes)
      elseif(answer STREQUAL no AND line MATCHES "\"(.*)\"")
        set(header ${CMAKE_SOURCE_DIR}/${CMAKE_MATCH_1})
        if(EXISTS ${header})
          espalier_sees_torch(${header} answer)
        endif()
      endif()
    endforeach()
    set_property(GLOBAL PROPERTY espalier_sees_torch_${file} ${answer})
  endif()
  set(${out} ${answer} PARENT_SCOPE)
endfunction()

# The header costs several seconds even in a source that makes no use of it: those do without.
function(espalier_use_torch_header name)
  espalier_torch_header()
  target_precompile_headers(${name} REUSE_FROM espalier_torch_header)
  get_target_property(sources ${name} SOURCES)
  foreach(source ${sources})
    if(source MATCHES "\\.cpp$")
      espalier_sees_torch(${CMAKE_CURRENT_SOURCE_DIR}/${source} sees_torch)
      if(NOT sees_torch)
        set_source_files_properties(${source} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
      endif()
    endif()
  endforeach()
endfunction()

# For code that waits or prints more than it computes: a quarter less to compile.
function(espalier_optimize_little name)
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
endfunction()

# espalier_library(NAME SOURCES a.cpp ... [LINKS targets...] [PRIVATE_LINKS targets...] [TORCH])
# TORCH: the sources include torch/torch.h, so they use the shared precompiled header.
function(espalier_library name)
  cmake_parse_arguments(arg "TORCH" "" "SOURCES;LINKS;PRIVATE_LINKS" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_link_libraries(${name} PUBLIC ${arg_LINKS} PRIVATE espalier_options ${arg_PRIVATE_LINKS})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  if(arg_TORCH)
    target_link_libraries(${name} PUBLIC espalier::torch)
    espalier_use_torch_header(${name})
  endif()
  espalier_jumbo_units(${name})
endfunction()

# espalier_program(NAME SOURCES ... LINKS ... [TORCH])
function(espalier_program name)
  cmake_parse_arguments(arg "TORCH" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE espalier_options ${arg_LINKS})
  if(arg_TORCH)
    target_link_libraries(${name} PRIVATE espalier::torch)
    espalier_use_torch_header(${name})
  endif()
  espalier_jumbo_units(${name})
  list(TRANSFORM arg_SOURCES PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/ REGEX "^[^$]+$")
  list(FILTER arg_SOURCES INCLUDE REGEX "^[^$]+$")
  string(JOIN " " line ${name} ${arg_SOURCES})
  set_property(GLOBAL APPEND_STRING PROPERTY espalier_programs "${line}\n")
endfunction()

# Leaves programs.txt in the build folder, a program a line with its sources: tests/targets_of.py reads it.
function(espalier_list_programs)
  get_property(programs GLOBAL PROPERTY espalier_programs)
  file(WRITE ${CMAKE_BINARY_DIR}/programs.txt "${programs}")
endfunction()

# espalier_test(NAME SOURCES ... LINKS ... [LABELS ...] [TORCH]): one GoogleTest program per folder.
function(espalier_test name)
  cmake_parse_arguments(arg "TORCH" "" "SOURCES;LINKS;LABELS" ${ARGN})
  if(arg_TORCH)
    espalier_program(${name} SOURCES ${arg_SOURCES} LINKS ${arg_LINKS} GTest::gtest_main TORCH)
  else()
    espalier_program(${name} SOURCES ${arg_SOURCES} LINKS ${arg_LINKS} GTest::gtest_main)
  endif()
  espalier_optimize_little(${name})
  target_include_directories(${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})  # what the folder's tests share
  # Relative, since it is compiled in: clones in other folders then find it in the compiler cache.
  target_compile_definitions(${name} PRIVATE ESPALIER_SOURCE_DIR=".")
  if(NOT arg_LABELS)
    set(arg_LABELS unit)
  endif()
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60 WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
                       PROPERTIES LABELS "${arg_LABELS}" TIMEOUT 300)
endfunction()
