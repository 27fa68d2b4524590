// containerd-shim-thaw-v2: runs the shim program with the Node of its own install tree.
//
//   /opt/thaw/<version>/bin/containerd-shim-thaw-v2   this program (often reached through a symbolic link)
//   /opt/thaw/<version>/bin/node
//   /opt/thaw/<version>/lib/shim.cjs
//   /opt/thaw/<version>/lib/cache                     compiled code, filled by Node itself
//
// containerd starts it two or three times a container, so what needs no JavaScript is answered here: see Native().

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

namespace {

constexpr char kName[] = "containerd-shim-thaw-v2";

// Command line of a shim, in the manner of Go's flag package: one or two dashes, "-name value" or "-name=value", and
// the first word that is no flag ends them and is the action.
struct Invocation {
  bool version = false;
  const char* action = "";
};

bool TakesValue(const char* name) {
  constexpr const char* kFlags[] = {"namespace", "id", "address", "publish-binary", "bundle", "socket"};
  for (const char* flag : kFlags) {
    if (strcmp(name, flag) == 0) return true;
  }
  return false;
}

Invocation Parse(int argc, char** argv) {
  Invocation invocation;
  for (int i = 1; i < argc; i++) {
    const char* name = argv[i];
    if (name[0] != '-' || name[1] == '\0') {
      invocation.action = name;
      break;
    }
    name += name[1] == '-' ? 2 : 1;
    if (*name == '\0') break;  // "--" ends the flags
    if (strcmp(name, "v") == 0 || strcmp(name, "version") == 0) invocation.version = true;
    if (TakesValue(name)) i++;
  }
  return invocation;
}

// Answers what needs no JavaScript. Returns an exit status, or -1 to leave it to the shim program. Actions such as
// `delete` can move here one by one: the arguments are parsed already.
int Native(const Invocation& invocation) {
  if (!invocation.version) return -1;
  printf("%s:\n  Version:  %s\n", kName, THAW_VERSION);
  return fflush(stdout) == 0 ? 0 : 1;
}

// Cuts the last part off a path; false if there is none.
bool Parent(char* path) {
  char* const slash = strrchr(path, '/');
  if (!slash) return false;
  *slash = '\0';
  return true;
}

[[noreturn]] void Fail(const char* what, const char* path, int error) {
  fprintf(stderr, "%s: Cannot %s %s: %s; install thaw again, its files belong together\n", kName, what, path,
          strerror(error));
  exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  const int status = Native(Parse(argc, argv));
  if (status >= 0) return status;

  // The link's target, so that a symbolic link in PATH leads to its own version's tree.
  char tree[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", tree, sizeof tree - 1);
  if (length < 0) Fail("read", "/proc/self/exe", errno);
  tree[length] = '\0';
  if (!Parent(tree) || !Parent(tree)) Fail("find the install tree of", "/proc/self/exe", ENOENT);

  char node[PATH_MAX + 16], program[PATH_MAX + 16], cache[PATH_MAX + 16];
  snprintf(node, sizeof node, "%s/bin/node", tree);
  snprintf(program, sizeof program, "%s/lib/shim.cjs", tree);
  if (access(program, R_OK) != 0) Fail("read", program, errno);

  // Compiled code of the program is kept in the tree: a server is ready in 69 ms instead of 95, measured with the
  // shim's own modules. Node checks source and content of every entry, and does without where it cannot write.
  // Portable: entries are named relative to the folder, so the tree may be moved.
  snprintf(cache, sizeof cache, "%s/lib/cache", tree);
  setenv("NODE_COMPILE_CACHE", cache, 0);
  setenv("NODE_COMPILE_CACHE_PORTABLE", "1", 0);

  const char* const flags[] = {
      // containerd 1.6 takes everything that `start` prints, on stderr too, for the address.
      "--disable-warning=ExperimentalWarning",
      // One process a pod, mostly idle: no helper threads for the engine (3 threads less), and a small young
      // generation. Together 1.4 MB less private memory, no slower to start.
      "--v8-pool-size=0",
      "--max-semi-space-size=1",
  };
  constexpr int kFlags = sizeof flags / sizeof *flags;
  char** const arguments = static_cast<char**>(calloc(static_cast<size_t>(argc) + kFlags + 3, sizeof(char*)));
  if (!arguments) Fail("run", node, ENOMEM);
  int count = 0;
  arguments[count++] = node;
  for (const char* flag : flags) arguments[count++] = const_cast<char*>(flag);
  arguments[count++] = program;
  for (int i = 1; i < argc; i++) arguments[count++] = argv[i];
  execv(node, arguments);
  Fail("run", node, errno);
}
