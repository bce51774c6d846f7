# ccache, where it is installed and no other launcher is named: what was compiled once is not compiled again, in
# a fresh clone in another folder either.
#
# For the precompiled header ccache 4.7 wants -fpch-preprocess and to be told that times are no matter. The
# base directory makes paths below it relative, so that clones agree on them.

find_program(ESPALIER_CCACHE ccache)
if(ESPALIER_CCACHE AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${ESPALIER_CCACHE})
endif()
if(CMAKE_CXX_COMPILER_LAUNCHER MATCHES "ccache" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_compile_options(-fpch-preprocess)
endif()
message(STATUS "Compiler launcher: ${CMAKE_CXX_COMPILER_LAUNCHER}")
