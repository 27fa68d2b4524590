// Texts among the top-level keys of a TOML document: all that the launcher needs of the options CRI sends.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "error.h"

namespace thaw {

struct TomlPick {
  const char* key;
  std::string* text;
};

// A value that is no text is passed over. Reads up to the first table.
Error PickToml(std::string_view document, std::initializer_list<TomlPick> picks);

}  // namespace thaw
