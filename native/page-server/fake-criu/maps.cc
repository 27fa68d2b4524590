#include "maps.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "../../fd.h"
#include "output.h"

namespace thaw {
namespace {

// "START-END ..."; false for a line that is none.
bool ParseRange(const char* line, uint64_t* start, uint64_t* end) {
  uint64_t* number = start;
  *start = *end = 0;
  for (; *line != ' '; line++) {
    if (*line == '-') number = end;
    else if (*line >= '0' && *line <= '9') *number = *number << 4 | static_cast<uint64_t>(*line - '0');
    else if (*line >= 'a' && *line <= 'f') *number = *number << 4 | static_cast<uint64_t>(*line - 'a' + 10);
    else return false;
  }
  return number == end;
}

}  // namespace

uint64_t MappingEnd(uint64_t address) {
  const UniqueFd file(open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
  if (!file.valid()) Die("/proc/self/maps: %s", strerror(errno));
  char text[16384];
  for (size_t held = 0;;) {
    const ssize_t got = read(file.get(), text + held, sizeof text - 1 - held);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return 0;
    held += static_cast<size_t>(got);
    text[held] = '\0';
    char* line = text;
    for (char* newline; (newline = strchr(line, '\n')); line = newline + 1) {
      uint64_t start, end;
      if (!ParseRange(line, &start, &end)) Die("a line of /proc/self/maps makes no sense");
      if (address < start) return 0;
      if (address < end) return end;
    }
    held -= static_cast<size_t>(line - text);
    memmove(text, line, held);
  }
}

}  // namespace thaw
