# A room is one folder of sources built as one static library. What a house (kernels, worker, coordinator) offers stands
# in its include/muster; a room may use the houses below it, never the ones above.

set(MST_WARNINGS -Wall -Wextra -Wpedantic -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
                 -Wpointer-arith -Wcast-qual -Wwrite-strings -Wformat=2 -Wundef)
# Strict IEEE arithmetic, so that every compiler gives the same bits: no contraction, no reassociation. Neither errno nor
# floating-point traps are used, and both would keep loops from being vectorised.
set(MST_ARITHMETIC -ffp-contract=off -fno-math-errno -fno-trapping-math)

add_library(mst_flags INTERFACE)
target_compile_options(mst_flags INTERFACE ${MST_WARNINGS} ${MST_ARITHMETIC})
target_compile_definitions(mst_flags INTERFACE _GNU_SOURCE MST_VERSION="${PROJECT_VERSION}"
                           $<$<CONFIG:Debug>:MST_DEBUG=1>)
if(MST_SANITIZE)
  # gcc's own manual: with a sanitizer, -Wmaybe-uninitialized sees what is not there. clang does not vectorise then, and says so.
  target_compile_options(mst_flags INTERFACE -fsanitize=${MST_SANITIZE} -fno-omit-frame-pointer -O1
                         $<$<C_COMPILER_ID:GNU>:-Wno-maybe-uninitialized> $<$<C_COMPILER_ID:Clang>:-Wno-pass-failed>)
  target_link_options(mst_flags INTERFACE -fsanitize=${MST_SANITIZE})
  if(MST_SANITIZE MATCHES undefined)
    target_compile_options(mst_flags INTERFACE -fno-sanitize-recover=all)
  endif()
endif()

# mst_room(NAME FOLDER [LIBRARY...]): a static library NAME of all C files in FOLDER, linked to the libraries named.
function(mst_room name folder)
  file(GLOB sources CONFIGURE_DEPENDS ${folder}/*.c)
  add_library(${name} STATIC ${sources})
  target_include_directories(${name} PRIVATE ${folder} PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/include)
  target_link_libraries(${name} PUBLIC ${ARGN} PRIVATE mst_flags)
endfunction()

# Longer than any test takes: one that does not end fails. Sanitizers make some many times slower.
set(MST_TEST_SECONDS 120)
if(MST_SANITIZE)
  set(MST_TEST_SECONDS 300)
endif()

# mst_test(NAME LABELS SOURCES... LIBS LIBRARY... [ARGS ARG...]): a test program; exit status 77 means skipped.
function(mst_test name label)
  cmake_parse_arguments(T "" "TIMEOUT" "SOURCES;LIBS;ARGS" ${ARGN})
  add_executable(${name} ${T_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(${name} PRIVATE mst_flags ${T_LIBS})
  add_test(NAME ${name} COMMAND ${name} ${T_ARGS})
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT ${MST_TEST_SECONDS})
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${label}" SKIP_RETURN_CODE 77 TIMEOUT ${T_TIMEOUT})
  if(MST_SANITIZE) # a refused allocation is an answer, as it is without a sanitizer
    set_tests_properties(${name} PROPERTIES
      ENVIRONMENT "ASAN_OPTIONS=allocator_may_return_null=1;TSAN_OPTIONS=allocator_may_return_null=1")
  endif()
endfunction()
