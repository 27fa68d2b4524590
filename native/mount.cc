#include "mount.h"

#include <errno.h>
#include <sys/mount.h>
#include <unistd.h>

#include "args.h"
#include "errors.h"
#include "overlay.h"

namespace thaw {

Napi::Value Mount(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string source = args.String(0);
  const std::string target = args.String(1);
  const std::string type = args.String(2);
  const uint32_t flags = args.Flags(3);
  const std::string data = args.String(4);
  if (!args.ok()) return info.Env().Undefined();
  // The kernel copies one page and cuts the rest off silently (copy_mount_options).
  if (data.size() >= static_cast<size_t>(sysconf(_SC_PAGESIZE)))
    return Throw(info.Env(), {E2BIG, "mount", target, "the option string exceeds one page"});
  // Safe: every string is NUL-terminated and outlives the call; an empty one means "none" for all of them.
  if (mount(source.empty() ? nullptr : source.c_str(), target.c_str(), type.empty() ? nullptr : type.c_str(), flags,
            data.empty() ? nullptr : data.c_str()) != 0)
    return Throw(info.Env(), {errno, "mount", target, {}});
  return info.Env().Undefined();
}

Napi::Value Umount(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string target = args.String(0);
  const uint32_t flags = args.Flags(1);
  if (!args.ok()) return info.Env().Undefined();
  // Safe: acts on the path alone; UMOUNT_NOFOLLOW is the caller's to give.
  if (umount2(target.c_str(), static_cast<int>(flags)) != 0) return Throw(info.Env(), {errno, "umount2", target, {}});
  return info.Env().Undefined();
}

Napi::Value MountOverlay(const Napi::CallbackInfo& info) {
  Args args(info);
  OverlayRequest request;
  request.target = args.String(0);
  request.lower = args.Strings(1);
  request.upper = args.String(2);
  request.work = args.String(3);
  request.options = args.Strings(4);
  if (!args.ok()) return info.Env().Undefined();
  if (const Failure failure = MountOverlay(request)) return Throw(info.Env(), failure);
  return info.Env().Undefined();
}

}  // namespace thaw
