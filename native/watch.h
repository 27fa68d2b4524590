// Waits for what the kernel says: events of a v1 cgroup by eventfd, changed control files of v2 by poll, opened files by
// inotify.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value WatchCgroupEvent(const Napi::CallbackInfo& info);
Napi::Value WatchFile(const Napi::CallbackInfo& info);
Napi::Value WatchOpens(const Napi::CallbackInfo& info);
Napi::Value WatchStop(const Napi::CallbackInfo& info);

}  // namespace thaw
