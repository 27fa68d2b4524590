#include "tree.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <string_view>

#include "files.h"

namespace thaw {
namespace {

constexpr char kDefaultPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

Error Incomplete(const char* what, const std::string& path, int error) {
  return {std::string("containerd-shim-thaw-v2: Cannot ") + what + ' ' + path + ": " + strerror(error) +
          "; install thaw again, its files belong together"};
}

std::string_view Value(std::string_view name) {
  for (char** entry = environ; *entry; entry++) {
    const std::string_view text = *entry;
    if (text.size() > name.size() && text[name.size()] == '=' && text.substr(0, name.size()) == name)
      return text.substr(name.size() + 1);
  }
  return {};
}

// Our environment without some names.
std::vector<std::string> EnvironmentWithout(std::initializer_list<std::string_view> names) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry; entry++) {
    const std::string_view text = *entry;
    bool keep = true;
    for (const std::string_view name : names) keep = keep && text.substr(0, text.find('=')) != name;
    if (keep) result.emplace_back(text);
  }
  return result;
}

// As execvp(3), which may not be called between fork and exec.
bool FindInPath(std::string_view path, const std::string& name, std::string* program) {
  while (true) {
    const std::string_view directory = path.substr(0, path.find(':'));
    *program = std::string(directory.empty() ? "." : directory) + '/' + name;
    if (access(program->c_str(), X_OK) == 0 && !IsDirectory(*program)) return true;
    if (directory.size() == path.size()) return false;
    path.remove_prefix(directory.size() + 1);
  }
}

}  // namespace

Error FindTree(std::string* tree) {
  // The link's target, so that a symbolic link in PATH leads to its own version's tree.
  char self[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", self, sizeof self);
  if (length < 0) return Incomplete("read", "/proc/self/exe", errno);
  *tree = ParentPath(ParentPath({self, static_cast<size_t>(length)}));
  return {};
}

Error ServerCommand(const std::string& tree, const std::vector<std::string>& shim_arguments, Command* command) {
  const std::string program = tree + "/lib/shim.cjs";
  command->program = tree + "/bin/node";
  // Here, because a server that ends while it starts can tell nobody.
  if (access(program.c_str(), R_OK) != 0) return Incomplete("read", program, errno);
  if (access(command->program.c_str(), X_OK) != 0) return Incomplete("run", command->program, errno);

  command->arguments = {
      command->program,
      "--disable-warning=ExperimentalWarning",
      // One process a pod, mostly idle: no helper threads for the engine (3 threads less), and a small young
      // generation. Together 1.4 MB less private memory, no slower to start.
      "--v8-pool-size=0",
      "--max-semi-space-size=1",
      program,
  };
  command->arguments.insert(command->arguments.end(), shim_arguments.begin(), shim_arguments.end());

  // Compiled code of the program is kept in the tree (shim/compiled-parts.ts); that of the file which loads the others by
  // Node, which checks source and content of every entry, and does without where it cannot write. Portable: entries
  // are named relative to the folder, so the tree may be moved.
  command->environment = EnvironmentWithout({"THAW_OPEN_FILES"});
  if (Value("NODE_COMPILE_CACHE").empty()) {
    command->environment.push_back("NODE_COMPILE_CACHE=" + tree + "/lib/cache");
    command->environment.push_back("NODE_COMPILE_CACHE_PORTABLE=1");
  }
  // Node raises its soft limit to the hard one; containers are to have containerd's.
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur != RLIM_INFINITY)
    command->environment.push_back("THAW_OPEN_FILES=" + std::to_string(files.rlim_cur));
  return {};
}

Error RuncCommand(const std::string& tree, const std::string& binary, const std::vector<std::string>& arguments,
                  Command* command) {
  // What is meant for a shim alone: runc would talk to systemd.
  command->environment = EnvironmentWithout({"NOTIFY_SOCKET", "NODE_COMPILE_CACHE", "NODE_COMPILE_CACHE_PORTABLE", "PATH"});
  const std::string_view path = Value("PATH").empty() ? kDefaultPath : Value("PATH");
  command->environment.push_back("PATH=" + tree + "/criu:" + std::string(path));
  command->program = binary;
  if (binary.find('/') == std::string::npos && !FindInPath(path, binary, &command->program))
    return {"Cannot find " + Quoted(binary) + "; install runc or set BinaryName"};
  command->arguments = {binary};
  command->arguments.insert(command->arguments.end(), arguments.begin(), arguments.end());
  return {};
}

}  // namespace thaw
