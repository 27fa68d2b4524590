// Picks a few values out of a JSON document of any size, without building a tree.
#pragma once

#include <initializer_list>
#include <string>

#include "error.h"

namespace thaw {

// `{"section": {"key": value}}`, or `{"key": value}` without a section. A value of another type is as if it were not
// there; of a key that comes twice the last one counts, as for runc. A text with a NUL byte is no path and no name:
// it is left out too.
struct Pick {
  const char* section;
  const char* key;
  std::string* text;
  bool* flag;
};

// `text` is used up. Refuses what is no JSON object, or nested deeper than Go would read it.
Error PickJson(std::string text, std::initializer_list<Pick> picks);

}  // namespace thaw
