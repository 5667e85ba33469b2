/* For the programs of the tests: what must be, or the program ends with 1. */
#include <stdio.h>
#include <stdlib.h>

#define MUST(condition) \
  do { \
    if (!(condition)) { \
      fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, ewsn_last_error()); \
      exit(1); \
    } \
  } while (0)
