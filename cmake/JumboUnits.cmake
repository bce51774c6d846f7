# Sources compiled several at a time: reading LibTorch's headers and going through their templates costs
# seconds of each compilation, more than most sources cost themselves.

option(ESPALIER_UNITY "Compile sources several at a time; OFF: each by itself" ON)
# Larger units make a first build cheaper, smaller ones the build after an edit.
set(ESPALIER_UNIT_FILES 6)
set_property(DIRECTORY ${CMAKE_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS cmake/plan_units.py)

# Sources whose own options or properties take them out of units.
function(espalier_stands_alone source out)
  set(${out} no PARENT_SCOPE)
  foreach(property SKIP_UNITY_BUILD_INCLUSION COMPILE_OPTIONS COMPILE_DEFINITIONS)
    get_source_file_property(value ${source} ${property})
    if(value)
      set(${out} yes PARENT_SCOPE)
    endif()
  endforeach()
endfunction()

# Gives TARGET, instead of FILES (paths from the root), jumbo units that include them; the files remain its
# sources for whoever asks. Units are named by their first file, and include by paths from the root, so
# that a copy of the project in another folder compiles the same text (which is what ccache compares).
function(espalier_add_units target skip_precompiled files)
  execute_process(
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/cmake/plan_units.py ${CMAKE_SOURCE_DIR} ${ESPALIER_UNIT_FILES} ${files}
    OUTPUT_VARIABLE plan OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE "\n" ";" units "${plan}")
  foreach(unit ${units})
    string(REPLACE " " ";" members "${unit}")
    list(LENGTH members count)
    if(count GREATER 1)
      list(GET members 0 first)
      string(REPLACE "/" "_" unit_name ${first})
      set(unit_file ${CMAKE_BINARY_DIR}/units/${target}/${unit_name})
      string(REGEX REPLACE "([^;]+);?" "#include \"\\1\"\n" text "${members}")
      file(CONFIGURE OUTPUT ${unit_file} CONTENT "${text}" @ONLY)
      target_sources(${target} PRIVATE ${unit_file})
      if(skip_precompiled)
        set_source_files_properties(${unit_file} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
      endif()
      list(TRANSFORM members PREPEND ${CMAKE_SOURCE_DIR}/)
      set_source_files_properties(${members} PROPERTIES HEADER_FILE_ONLY ON)
    endif()
  endforeach()
endfunction()

# Files that see torch and files that do not never share a unit.
function(espalier_divide target)
  get_target_property(sources ${target} SOURCES)
  set(seeing "")
  set(free "")
  foreach(source ${sources})
    if(NOT source MATCHES "^\\$<" AND source MATCHES "\\.cpp$")
      espalier_stands_alone(${source} alone)
      if(NOT alone)
        espalier_sees_torch(${CMAKE_CURRENT_SOURCE_DIR}/${source} sees_torch)
        file(RELATIVE_PATH path ${CMAKE_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/${source})
        if(sees_torch)
          list(APPEND seeing ${path})
        else()
          list(APPEND free ${path})
        endif()
      endif()
    endif()
  endforeach()
  espalier_add_units(${target} no "${seeing}")
  espalier_add_units(${target} yes "${free}")
endfunction()

# Called when a target is made; divides its sources when the folder's CMakeLists.txt has said all about them.
function(espalier_jumbo_units target)
  if(ESPALIER_UNITY)
    cmake_language(EVAL CODE "cmake_language(DEFER CALL espalier_divide ${target})")
  endif()
endfunction()
