#include "face.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "../args.h"
#include "../errors.h"
#include "server.h"

namespace thaw {
namespace {

constexpr int kMostThreads = 64;
constexpr int64_t kMostNode = (INT64_C(1) << 53) - 1;
constexpr int64_t kLargestFrame = 1 << 20;

// Belongs to JavaScript's thread.
struct Serving {
  std::unique_ptr<LayerServer> server;
  napi_threadsafe_function queue = nullptr;
  Napi::FunctionReference report;
};

void OnMissing(void* context, const MissingFrames& missing) {
  auto* const serving = static_cast<Serving*>(context);
  auto* const sent = new MissingFrames(missing);
  // The queue has no bound, so this never blocks; it refuses only when the environment ends.
  if (napi_call_threadsafe_function(serving->queue, sent, napi_tsfn_nonblocking) != napi_ok) delete sent;
}

void OnLoop(napi_env raw, napi_value, void* context, void* data) {
  const std::unique_ptr<MissingFrames> missing(static_cast<MissingFrames*>(data));
  auto* const serving = static_cast<Serving*>(context);
  if (!raw || !serving->server) return;
  const Napi::Env env(raw);
  const napi_value arguments[4] = {Napi::Number::New(env, static_cast<double>(missing->node)),
                                   Napi::Number::New(env, missing->first), Napi::Number::New(env, missing->last),
                                   Napi::Number::New(env, static_cast<double>(missing->ticket))};
  napi_value error;
  if (napi_call_function(env, env.Undefined(), serving->report.Value(), 4, arguments, nullptr) != napi_ok &&
      napi_get_and_clear_last_exception(env, &error) == napi_ok)
    napi_fatal_exception(env, error);
}

// Joins the threads while the queue still exists.
void Stop(void* context) {
  auto* const serving = static_cast<Serving*>(context);
  if (!serving->server) return;
  serving->server.reset();
  serving->report.Reset();
  napi_release_threadsafe_function(serving->queue, napi_tsfn_abort);
}

Serving* Of(const Napi::CallbackInfo& info) {
  if (info[0].IsExternal()) {
    auto* const serving = info[0].As<Napi::External<Serving>>().Data();
    if (serving->server) return serving;
  }
  Napi::TypeError::New(info.Env(), "Cannot use argument 1, expected a layer server that runs")
      .ThrowAsJavaScriptException();
  return nullptr;
}

uint64_t Node(Args& args, size_t index) {
  return static_cast<uint64_t>(args.Integer(index, 2, kMostNode, "an inode number from 2 on"));
}

}  // namespace

Napi::Value LayerServerOpen(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Args args(info);
  const int device = args.Fd(0);
  const Napi::Function report = args.Function(1);
  if (!args.ok()) return env.Undefined();
  auto serving = std::make_unique<Serving>();
  UniqueFd own(fcntl(device, F_DUPFD_CLOEXEC, 0));
  if (!own.valid()) return Throw(env, {errno, "fcntl", {}, {}});
  if (napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "thaw:layers"), 0, 1, nullptr,
                                      nullptr, serving.get(), OnLoop, &serving->queue) != napi_ok) {
    Napi::Error::New(env, "Cannot create the queue of the layer server").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  // A daemon lives by its sockets; this must not keep it.
  napi_unref_threadsafe_function(env, serving->queue);
  serving->report = Napi::Persistent(report);
  serving->report.SuppressDestruct();
  serving->server = std::make_unique<LayerServer>(OnMissing, serving.get());
  const Failure failure = serving->server->Open(std::move(own));
  Serving* const raw = serving.release();
  // It stays for as long as the process: the queue may still hold what refers to it.
  const auto external = Napi::External<Serving>::New(env, raw);
  // Hooks run in reverse order: this one before the queue's own.
  napi_add_env_cleanup_hook(env, Stop, raw);
  if (!failure) return external;
  Stop(raw);
  return Throw(env, failure);
}

Napi::Value LayerServerStart(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Args args(info);
  Serving* const serving = Of(info);
  const auto threads = static_cast<unsigned>(args.Integer(1, 1, kMostThreads, "a number of threads"));
  if (!serving || !args.ok()) return env.Undefined();
  if (const Failure failure = serving->server->Start(threads)) return Throw(env, failure);
  return env.Undefined();
}

Napi::Value LayerServerAdd(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Args args(info);
  Serving* const serving = Of(info);
  const uint64_t node = Node(args, 1);
  std::string name = args.String(2);
  const int fd = args.Fd(3);
  const uint64_t size = args.Offset(4);
  const auto frame = static_cast<uint32_t>(args.Integer(5, 1, kLargestFrame, "a frame's length up to 1048576"));
  const Bytes present = args.Uint8Array(6);
  const bool records = args.Boolean(7);
  if (!serving || !args.ok()) return env.Undefined();
  UniqueFd own(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!own.valid()) return Throw(env, {errno, "fcntl", {}, {}});
  if (size / frame >= UINT32_MAX) return Throw(env, {EFBIG, "", name, {}});
  const auto file = std::make_shared<LayerFile>(node, std::move(name), std::move(own), size, frame, records);
  file->present.Add(present.data, present.length);
  if (const Failure failure = serving->server->Add(file)) return Throw(env, failure);
  return env.Undefined();
}

Napi::Value LayerServerRemove(const Napi::CallbackInfo& info) {
  Args args(info);
  Serving* const serving = Of(info);
  const uint64_t node = Node(args, 1);
  if (serving && args.ok()) serving->server->Remove(node);
  return info.Env().Undefined();
}

Napi::Value LayerServerPresent(const Napi::CallbackInfo& info) {
  Args args(info);
  Serving* const serving = Of(info);
  const uint64_t node = Node(args, 1);
  const auto frame = static_cast<uint32_t>(args.Integer(2, 0, UINT32_MAX, "an ordinal"));
  if (serving && args.ok()) serving->server->Present(node, frame);
  return info.Env().Undefined();
}

Napi::Value LayerServerReads(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Args args(info);
  Serving* const serving = Of(info);
  const uint64_t node = Node(args, 1);
  if (!serving || !args.ok()) return env.Undefined();
  const std::vector<uint32_t> reads = serving->server->Reads(node);
  auto array = Napi::Uint32Array::New(env, reads.size());
  std::copy(reads.begin(), reads.end(), array.Data());
  return array;
}

Napi::Value LayerServerAnswer(const Napi::CallbackInfo& info) {
  Args args(info);
  Serving* const serving = Of(info);
  const auto ticket = static_cast<uint64_t>(args.Integer(1, 1, kMostNode, "a ticket"));
  const auto error = static_cast<int>(args.Integer(2, 0, 4095, "an errno, or 0"));
  if (serving && args.ok()) serving->server->Answer(ticket, error);
  return info.Env().Undefined();
}

Napi::Value LayerServerResend(const Napi::CallbackInfo& info) {
  Serving* const serving = Of(info);
  if (!serving) return info.Env().Undefined();
  if (const Failure failure = serving->server->Resend()) return Throw(info.Env(), failure);
  return info.Env().Undefined();
}

Napi::Value LayerServerStop(const Napi::CallbackInfo& info) {
  if (!info[0].IsExternal()) return info.Env().Undefined();
  auto* const serving = info[0].As<Napi::External<Serving>>().Data();
  if (serving->server) napi_remove_env_cleanup_hook(info.Env(), Stop, serving);
  Stop(serving);
  return info.Env().Undefined();
}

Napi::Value TakeDescriptor(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Args args(info);
  const int pid = args.Pid(0);
  const auto number = args.Integer(1, 0, INT32_MAX, "a descriptor of the other process");
  if (!args.ok()) return env.Undefined();
  const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid()) return Throw(env, {errno, "pidfd_open", {}, {}});
  // Safe: makes a descriptor of this process, close-on-exec; the other one keeps its own.
  const auto fd = static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), static_cast<int>(number), 0));
  if (fd < 0) return Throw(env, {errno, "pidfd_getfd", {}, {}});
  return Napi::Number::New(env, fd);
}

}  // namespace thaw
