// Waits for what the kernel says of a cgroup: events of v1 by eventfd, changed control files of v2 by poll.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value WatchCgroupEvent(const Napi::CallbackInfo& info);
Napi::Value WatchFile(const Napi::CallbackInfo& info);
Napi::Value WatchStop(const Napi::CallbackInfo& info);

}  // namespace thaw
