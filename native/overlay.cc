#include "overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "fd.h"

// glibc's <sys/mount.h> has mount(2) but clashes with <linux/mount.h>, which has the fsopen constants.
extern "C" int mount(const char*, const char*, const char*, unsigned long, const void*) noexcept;

namespace thaw {
namespace {

// fsconfig(2) refuses a longer string (strndup_user(…, 256)).
constexpr size_t kLongestValue = 255;

// CRIU reads mountinfo in pieces of 4096 bytes (BUF_SIZE in its proc_parse.c) and can neither dump nor restore where a
// line is longer. What is left is for the mount point and the other options.
constexpr size_t kLongestLine = 3500;

// Options that belong to the mount and not to the file system, for both interfaces.
struct MountFlag {
  const char* name;
  unsigned long classic;  // MS_*
  unsigned int attribute;  // MOUNT_ATTR_*
};
constexpr MountFlag kMountFlags[] = {
    {"ro", 0x1, MOUNT_ATTR_RDONLY},
    {"rw", 0, 0},
    {"nosuid", 0x2, MOUNT_ATTR_NOSUID},
    {"nodev", 0x4, MOUNT_ATTR_NODEV},
    {"noexec", 0x8, MOUNT_ATTR_NOEXEC},
    {"noatime", 0x400, MOUNT_ATTR_NOATIME},
    {"nodiratime", 0x800, MOUNT_ATTR_NODIRATIME},
    {"relatime", 0x200000, MOUNT_ATTR_RELATIME},
    {"strictatime", 0x1000000, MOUNT_ATTR_STRICTATIME},
};

const MountFlag* FindMountFlag(const std::string& option) {
  for (const MountFlag& flag : kMountFlags) {
    if (option == flag.name) return &flag;
  }
  return nullptr;
}

// Names directories for overlayfs. How ':', ',' and '\' are escaped differs between the interfaces and between
// kernel versions, so a name that holds one is given as /proc/self/fd/N instead; so is one that is too long. The
// kernel resolves the name once, while the mount is made: the descriptors may be closed after it. All are given so
// where mountinfo would become too long.
class LayerNames {
 public:
  explicit LayerNames(bool all_by_descriptor) : all_by_descriptor_(all_by_descriptor) {}

  Failure Name(const std::string& directory, std::string* name) {
    if (!all_by_descriptor_ && directory.size() <= kLongestValue &&
        directory.find_first_of(":,\\") == std::string::npos) {
      *name = directory;
      return {};
    }
    // Safe: O_PATH opens nothing but the name; O_DIRECTORY refuses anything else.
    UniqueFd fd(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid()) return {errno, "open", directory, {}};
    *name = "/proc/self/fd/" + std::to_string(fd.get());
    held_.push_back(std::move(fd));
    return {};
  }

 private:
  const bool all_by_descriptor_;
  std::vector<UniqueFd> held_;
};

// What the file system wrote into the context's log, as "overlay: …"; empty when nothing.
std::string ReadLog(int context) {
  std::string log;
  char line[512];
  for (;;) {
    // Safe: reading a file system context takes one message, and ENODATA ends them.
    const ssize_t count = read(context, line, sizeof line);
    if (count <= 2) return log;
    std::string text(line + 2, static_cast<size_t>(count) - 2);  // after "e ", "w " or "i "
    while (!text.empty() && text.back() == '\n') text.pop_back();
    log += (log.empty() ? "" : "; ") + text;
  }
}

bool IsLong(const OverlayRequest& request) {
  size_t length = request.upper.size() + request.work.size();
  for (const std::string& directory : request.lower) length += sizeof "lowerdir+=" + directory.size();
  return length > kLongestLine;
}

// One attempt through fsopen.
Failure MountByContext(const OverlayRequest& request) {
  // The system calls below take descriptors of this function and NUL-terminated strings; nothing is attached
  // anywhere before move_mount, so a failure half-way leaves nothing.
  const UniqueFd context(static_cast<int>(syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC)));
  if (!context.valid()) return {errno, "fsopen", request.target, {}};
  const auto config = [&](unsigned int command, const char* key, const char* value) -> Failure {
    if (syscall(SYS_fsconfig, context.get(), command, key, value, 0) == 0) return {};
    const int error = errno;
    std::string detail = ReadLog(context.get());
    if (key) detail = std::string(key) + (value ? std::string("=") + value : "") + (detail.empty() ? "" : ": ") + detail;
    return {error, "fsconfig", request.target, detail};
  };

  if (Failure failure = config(FSCONFIG_SET_STRING, "source", "overlay")) return failure;
  LayerNames names(IsLong(request));
  const auto layer = [&](const char* key, const std::string& directory) -> Failure {
    std::string name;
    if (Failure failure = names.Name(directory, &name)) return failure;
    return config(FSCONFIG_SET_STRING, key, name.c_str());
  };
  for (const std::string& directory : request.lower) {
    if (Failure failure = layer("lowerdir+", directory)) return failure;
  }
  if (!request.upper.empty()) {
    if (Failure failure = layer("upperdir", request.upper)) return failure;
    if (Failure failure = layer("workdir", request.work)) return failure;
  }
  unsigned int attributes = 0;
  for (const std::string& option : request.options) {
    if (const MountFlag* flag = FindMountFlag(option)) {
      attributes |= flag->attribute;
      if (flag->attribute != MOUNT_ATTR_RDONLY) continue;
    }
    const size_t equals = option.find('=');
    Failure failure = equals == std::string::npos
                          ? config(FSCONFIG_SET_FLAG, option.c_str(), nullptr)
                          : config(FSCONFIG_SET_STRING, option.substr(0, equals).c_str(), option.c_str() + equals + 1);
    if (failure) return failure;
  }
  if (Failure failure = config(FSCONFIG_CMD_CREATE, nullptr, nullptr)) return failure;

  const UniqueFd made(static_cast<int>(syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, attributes)));
  if (!made.valid()) return {errno, "fsmount", request.target, ReadLog(context.get())};
  if (syscall(SYS_move_mount, made.get(), "", AT_FDCWD, request.target.c_str(),
              MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS) != 0)
    return {errno, "move_mount", request.target, {}};
  return {};
}

Failure MountByString(const OverlayRequest& request, bool all_by_descriptor) {
  LayerNames names(all_by_descriptor);
  std::string data, name;
  unsigned long flags = 0;
  for (const std::string& directory : request.lower) {
    if (Failure failure = names.Name(directory, &name)) return failure;
    data += (data.empty() ? "lowerdir=" : ":") + name;
  }
  if (!request.upper.empty()) {
    if (Failure failure = names.Name(request.upper, &name)) return failure;
    data += ",upperdir=" + name;
    if (Failure failure = names.Name(request.work, &name)) return failure;
    data += ",workdir=" + name;
  }
  for (const std::string& option : request.options) {
    if (const MountFlag* flag = FindMountFlag(option))
      flags |= flag->classic;
    else
      data += "," + option;
  }
  // The kernel copies one page and cuts the rest off silently (copy_mount_options).
  if (data.size() >= static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    if (!all_by_descriptor) return MountByString(request, true);
    return {E2BIG, "mount", request.target, "too many layers for this kernel's option string"};
  }
  // Safe: every string is NUL-terminated and outlives the call.
  if (mount("overlay", request.target.c_str(), "overlay", flags, data.c_str()) != 0)
    return {errno, "mount", request.target, {}};
  return {};
}

// Signs of a kernel that lacks fsopen (5.2), or whose overlayfs does not know "lowerdir+" (6.5 at the earliest).
bool MayBeTooOld(const Failure& failure) {
  return failure.error == ENOSYS || failure.error == EINVAL;
}

}  // namespace

Failure MountOverlay(const OverlayRequest& request) {
  const Failure first = MountByContext(request);
  if (!first || !MayBeTooOld(first)) return first;
  const Failure second = MountByString(request, false);
  if (!second) return {};
  // mount(2) gives no reason beyond the number; the newer interface does.
  return first.error == ENOSYS ? second : first;
}

}  // namespace thaw
