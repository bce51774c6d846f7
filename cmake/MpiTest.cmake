# Tests that are real MPI jobs.

if(NOT MPIEXEC_EXECUTABLE)
  message(FATAL_ERROR "mpirun not found: the MPI tests need it.")
endif()

# A test machine may have fewer cores than ranks, run several jobs at once (which Open MPI would bind
# to the same cores), and run as root. Other MPIs ignore these variables.
set(ESPALIER_MPI_ENVIRONMENT
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
    OMPI_MCA_hwloc_base_binding_policy=none OMP_NUM_THREADS=1)

# espalier_mpi_test(NAME TARGET program RANKS n [ARGS ...] [LABELS ...] [TIMEOUT seconds])
# Runs `mpirun -n RANKS program ARGS`; fails when it cannot start.
function(espalier_mpi_test name)
  cmake_parse_arguments(arg "" "TARGET;RANKS;TIMEOUT" "ARGS;LABELS" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  add_test(NAME ${name}
           COMMAND ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} ${arg_RANKS}
                   $<TARGET_FILE:${arg_TARGET}> ${arg_ARGS})
  set_tests_properties(${name} PROPERTIES LABELS "mpi;${arg_LABELS}" TIMEOUT ${arg_TIMEOUT}
                       PROCESSORS ${arg_RANKS} ENVIRONMENT "${ESPALIER_MPI_ENVIRONMENT}")
endfunction()
