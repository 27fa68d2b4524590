// The listening socket of a pod's server: made once, shared by the pod's containers, replaced when its owner is gone.
#pragma once

#include <string>

#include "../fd.h"
#include "error.h"

namespace thaw {

// `listener` is valid if the socket is ours to serve; otherwise another server of the pod answers there. Of several
// callers at the same time exactly one gets the listener.
Error ListenOrShare(const std::string& path, UniqueFd* listener);

// Removes the socket of a server that is gone; one that lives keeps it.
Error RemoveDeadSocket(const std::string& path);

// Removes the socket that ListenOrShare made here.
void RemoveOwnSocket(const std::string& path);

}  // namespace thaw
