/* Which arguments the kernels take: a library from before a change must not be called with others. */

#include "lanes.h"

int32_t interface(void) {
  return INTERFACE;
}
