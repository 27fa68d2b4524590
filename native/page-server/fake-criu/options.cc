#include "options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

namespace thaw {
namespace {

uint64_t NumberOf(const char* option, const char* text) {
  char* end;
  errno = 0;
  const uint64_t number = strtoull(text, &end, 0);
  if (errno || end == text || *end) Die("%s is no number", option);
  return number;
}

unsigned SmallNumberOf(const char* option, const char* text) {
  const uint64_t number = NumberOf(option, text);
  if (number > 1'000'000'000) Die("%s is too large", option);
  return static_cast<unsigned>(number);
}

}  // namespace

Options ParseOptions(int argc, char** argv) {
  Options options;
  for (int i = 0; i < argc; i++) {
    const char* const option = argv[i];
    const char* const equals = strchr(option, '=');
    const std::string name(option, equals ? static_cast<size_t>(equals - option) : strlen(option));
    const char* const value = equals ? equals + 1 : "";
    if (name == "--socket") options.socket = value;
    else if (name == "--layout") options.layout = value;
    else if (name == "--scenario") options.scenario = value;
    else if (name == "--pages") options.pages = value;
    else if (name == "--bug") options.bug = value;
    else if (name == "--seed") options.seed = NumberOf(option, value);
    else if (name == "--operations") options.operations = NumberOf(option, value);
    else if (name == "--seconds") options.seconds = NumberOf(option, value);
    else if (name == "--threads") options.threads = SmallNumberOf(option, value);
    else if (name == "--timeout") options.timeout = SmallNumberOf(option, value);
    else if (name == "--pause-us") options.pause_us = SmallNumberOf(option, value);
    else if (name == "--map-delay-ms") options.map_delay_ms = SmallNumberOf(option, value);
    else if (name == "--wait" && !equals) options.wait = true;
    else if (name == "--early" && !equals) options.early = true;
    else if (name == "--keep" && !equals) options.keep = true;
    else Die("unknown option %s", option);
  }
  // 127 indexes fit beside the counter of what a thread writes.
  if (options.threads == 0 || options.threads > 100) Die("--threads must be 1 to 100");
  if (options.timeout == 0) Die("--timeout must not be 0");
  return options;
}

}  // namespace thaw
