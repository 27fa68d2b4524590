#include "flags.h"

#include <string_view>

namespace thaw {
namespace {

std::string* TextFlag(std::string_view name, Flags* flags) {
  if (name == "namespace") return &flags->ns;
  if (name == "id") return &flags->id;
  if (name == "address") return &flags->address;
  if (name == "publish-binary") return &flags->publish_binary;
  if (name == "bundle") return &flags->bundle;
  if (name == "socket") return &flags->socket;
  return nullptr;
}

// As strconv.ParseBool.
bool ParseBool(std::string_view text, bool* value) {
  for (const std::string_view yes : {"1", "t", "T", "true", "TRUE", "True"})
    if (text == yes) return *value = true;
  for (const std::string_view no : {"0", "f", "F", "false", "FALSE", "False"})
    if (text == no) return !(*value = false);
  return false;
}

Error ParseAction(std::string_view word, Action* action) {
  if (word == "start") *action = Action::kStart;
  else if (word == "delete") *action = Action::kDelete;
  else if (word == "serve") *action = Action::kServe;
  else if (word == "guard") *action = Action::kGuard;
  else if (word == "hold") *action = Action::kHold;
  else return {"Unknown action " + Quoted(word) + "; use start or delete"};
  return {};
}

Error RequireName(const char* what, const std::string& value) {
  if (value.empty()) return {std::string("shim ") + what + " cannot be empty"};
  if (value.find('/') != std::string::npos || value == "." || value == "..")
    return {"Cannot use " + Quoted(value) + " as a container's " + what};
  return {};
}

}  // namespace

Error ParseFlags(int argc, char** argv, Flags* flags) {
  bool version = false, info = false;
  int at = 1;
  for (; at < argc; at++) {
    const std::string_view word = argv[at];
    if (word.size() < 2 || word[0] != '-') break;
    std::string_view name = word.substr(word[1] == '-' ? 2 : 1);
    if (name.empty()) {  // "--" ends the flags
      at++;
      break;
    }
    if (name[0] == '-' || name[0] == '=') return {"bad flag syntax: " + std::string(word)};
    const size_t equals = name.find('=');
    const bool given = equals != std::string_view::npos;
    const std::string_view value = given ? name.substr(equals + 1) : std::string_view();
    name = name.substr(0, equals);
    if (std::string* const text = TextFlag(name, flags)) {
      if (!given && at + 1 >= argc) return {"flag needs an argument: -" + std::string(name)};
      *text = given ? std::string(value) : std::string(argv[++at]);
      continue;
    }
    bool* const flag = name == "debug"                    ? &flags->debug
                       : name == "info"                   ? &info
                       : name == "v" || name == "version" ? &version
                                                          : nullptr;
    if (!flag) return {"flag provided but not defined: -" + std::string(name)};
    *flag = true;
    if (given && !ParseBool(value, flag))
      return {"invalid boolean value " + Quoted(value) + " for -" + std::string(name)};
  }
  if (version) flags->action = Action::kVersion;
  else if (info) flags->action = Action::kInfo;
  else if (at < argc) return ParseAction(argv[at], &flags->action);
  return {};
}

Error RequireContainer(const Flags& flags) {
  if (Error error = RequireName("namespace", flags.ns)) return error;
  return RequireName("id", flags.id);
}

}  // namespace thaw
