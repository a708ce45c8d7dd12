# What `cmake --install` puts where, beside the program and its documents (coordinator/). Needs no network; honours --prefix and
# DESTDIR.
include(GNUInstallDirs)

install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs)
install(DIRECTORY configs/ DESTINATION ${CMAKE_INSTALL_DATADIR}/muster/configs USE_SOURCE_PERMISSIONS
        PATTERN *.h5 EXCLUDE PATTERN data EXCLUDE)

# The prefix is known when it is installed, not before.
set(modulefile ${CMAKE_CURRENT_BINARY_DIR}/modulefile)
install(CODE "
  set(MUSTER_VERSION ${PROJECT_VERSION})
  set(MUSTER_ROOT \${CMAKE_INSTALL_PREFIX})
  configure_file(${CMAKE_CURRENT_SOURCE_DIR}/.cmake/modulefile.in ${modulefile} @ONLY)")
install(FILES ${modulefile} DESTINATION ${CMAKE_INSTALL_DATADIR}/modulefiles/muster RENAME ${PROJECT_VERSION})

# One tar file for machines without these libraries: docs/install.md. With it go the programs that check and time GPUs.
set(tools)
if(MST_BUILD_TESTS)
  set(tools $<TARGET_FILE:check_kernels> $<TARGET_FILE:check_model> $<TARGET_FILE:bench_step>)
endif()
list(JOIN tools "," tool_list)
add_custom_target(bundle
  COMMAND ${CMAKE_COMMAND} -DBUILD=${CMAKE_BINARY_DIR} -DNAME=muster-${PROJECT_VERSION}-linux-${CMAKE_SYSTEM_PROCESSOR}
          -DVERSION=${PROJECT_VERSION} -DMPIEXEC=${MPIEXEC_EXECUTABLE} -DSTRIP=${CMAKE_STRIP} -DTOOLS=${tool_list}
          -P ${CMAKE_CURRENT_SOURCE_DIR}/.cmake/bundle.cmake
  DEPENDS program ${tools} VERBATIM)
