// Mounts that show files as if they belonged to other users: what a container with a user namespace of its own needs.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value UserNamespace(const Napi::CallbackInfo& info);
Napi::Value MountMapped(const Napi::CallbackInfo& info);

}  // namespace thaw
