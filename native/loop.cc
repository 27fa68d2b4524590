#include "loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "args.h"
#include "errors.h"
#include "fd.h"

namespace thaw {
namespace {

constexpr const char* kControl = "/dev/loop-control";
// Others may take the device that the kernel called free.
constexpr int kTries = 100;

Failure Attach(const std::string& file, bool readonly, std::string* device, UniqueFd* held) {
  const int mode = (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC;
  // Safe: what is opened is the caller's to choose; the device keeps the file, this descriptor closes with the function.
  const UniqueFd backing(open(file.c_str(), mode));
  if (!backing.valid()) return {errno, "open", file, {}};
  const UniqueFd control(open(kControl, O_RDWR | O_CLOEXEC));
  if (!control.valid()) return {errno, "open", kControl, {}};
  loop_config config{};
  config.fd = static_cast<uint32_t>(backing.get());
  // The device goes when its last user goes: the mount, or before it was mounted our descriptor, also if we are killed.
  config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (readonly ? LO_FLAGS_READ_ONLY : 0);
  // For losetup(8) to show; cut where it is longer.
  strncpy(reinterpret_cast<char*>(config.info.lo_file_name), file.c_str(), LO_NAME_SIZE - 1);
  for (int i = 0; i < kTries; i++) {
    // Safe: names a device that was free, and makes it if there was none; taking it is another step.
    const int number = ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return {errno, "ioctl", kControl, "LOOP_CTL_GET_FREE"};
    *device = "/dev/loop" + std::to_string(number);
    UniqueFd fd(open(device->c_str(), mode));
    if (!fd.valid()) return {errno, "open", *device, {}};
    // Safe: attaches and configures in one step (5.8), so nobody sees the device half-made; EBUSY if it was taken.
    if (ioctl(fd.get(), LOOP_CONFIGURE, &config) == 0) {
      *held = std::move(fd);
      return {};
    }
    if (errno != EBUSY) return {errno, "ioctl", *device, "LOOP_CONFIGURE " + file};
  }
  return {EBUSY, "ioctl", kControl, "others took every loop device that was free"};
}

}  // namespace

Napi::Value LoopAttach(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string file = args.String(0);
  const bool readonly = args.Boolean(1);
  if (!args.ok()) return info.Env().Undefined();
  std::string device;
  UniqueFd held;
  if (const Failure failure = Attach(file, readonly, &device, &held)) return Throw(info.Env(), failure);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("device", device);
  result.Set("fd", held.release());
  return result;
}

}  // namespace thaw
