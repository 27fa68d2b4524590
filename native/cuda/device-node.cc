#include "device-node.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../fd.h"

namespace thaw {
namespace {

bool IsName(const std::string& name) {
  return name.rfind("nvidia", 0) == 0 && name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos;
}

std::string Failed(const std::string& name) { return "cannot make /dev/" + name + " in the container: " + strerror(errno); }

}  // namespace

std::string MakeDeviceNode(int pid, const std::string& name, unsigned major, unsigned minor) {
  if (!IsName(name)) return "no name of a GPU's device: " + name;
  const UniqueFd root(open(("/proc/" + std::to_string(pid) + "/root").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return Failed(name);
  open_how how{};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  // What the checkpoint has in place of /dev must not lead out of the container.
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  // Safe: reads its arguments only; the descriptor is owned at once.
  const UniqueFd dev(static_cast<int>(syscall(SYS_openat2, root.get(), "dev", &how, sizeof how)));
  if (!dev.valid()) return Failed(name);
  struct stat found;
  if (fstatat(dev.get(), name.c_str(), &found, AT_SYMLINK_NOFOLLOW) == 0) {
    if (S_ISCHR(found.st_mode) && found.st_rdev == makedev(major, minor)) return "";
    if (unlinkat(dev.get(), name.c_str(), 0) != 0) return Failed(name);
  }
  return mknodat(dev.get(), name.c_str(), S_IFCHR | 0666, makedev(major, minor)) == 0 ? "" : Failed(name);
}

}  // namespace thaw
