#include "face.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <memory>

#include "../args.h"
#include "../errors.h"
#include "server.h"

namespace thaw {
namespace {

constexpr size_t kMostChunks = 1 << 24;
constexpr int kMostCopiers = 64;
// Thousands of messages with a descriptor each: a guard that is slow must not look like one that is gone.
constexpr int kGuardBuffer = 8 << 20;

// Belongs to JavaScript's thread. It lives until the server has ended and nobody refers to it any more.
struct Running {
  std::unique_ptr<PageServer> server;
  napi_threadsafe_function queue = nullptr;
  Napi::FunctionReference report;
  Napi::ObjectReference self;  // until the last event
  std::atomic<bool> closing{false};  // the environment ends, and with it the queue
};

const char* NameOf(PageServerEvent::Kind kind) {
  switch (kind) {
    case PageServerEvent::Kind::kGuardReady:
      return "guard-ready";
    case PageServerEvent::Kind::kGuardLost:
      return "guard-lost";
    case PageServerEvent::Kind::kRestored:
      return "restored";
    case PageServerEvent::Kind::kWanted:
      return "wanted";
    case PageServerEvent::Kind::kFailed:
      return "failed";
    case PageServerEvent::Kind::kEnded:
      return "ended";
  }
  return "";
}

void OnReport(void* context, PageServerEvent event) {
  auto* const running = static_cast<Running*>(context);
  if (running->closing) return;
  auto* const sent = new PageServerEvent(std::move(event));
  // The queue has no bound, so this never blocks; it refuses only when the environment ends.
  if (napi_call_threadsafe_function(running->queue, sent, napi_tsfn_nonblocking) != napi_ok) delete sent;
}

// The threads serve on until the process ends, but have nobody to tell.
void OnEnvironmentEnd(void* context) { static_cast<Running*>(context)->closing = true; }

void OnLoop(napi_env raw, napi_value, void* context, void* data) {
  const std::unique_ptr<PageServerEvent> event(static_cast<PageServerEvent*>(data));
  if (!raw) return;
  const Napi::Env env(raw);
  auto* const running = static_cast<Running*>(context);
  Napi::Object told = Napi::Object::New(env);
  told.Set("kind", NameOf(event->kind));
  Napi::Array ordinals = Napi::Array::New(env, event->ordinals.size());
  for (size_t i = 0; i < event->ordinals.size(); i++) ordinals.Set(static_cast<uint32_t>(i), event->ordinals[i]);
  if (event->kind == PageServerEvent::Kind::kWanted) told.Set("ordinals", ordinals);
  if (event->kind == PageServerEvent::Kind::kFailed) told.Set("error", ToError(env, event->failure));
  const Napi::Function report = running->report.Value();
  const napi_value argument = told;
  const bool last = event->kind == PageServerEvent::Kind::kEnded;
  const bool thrown = napi_call_function(env, env.Undefined(), report, 1, &argument, nullptr) != napi_ok;
  if (last) {
    // Its threads have said all they had to say; joining them waits for nothing.
    napi_remove_env_cleanup_hook(env, OnEnvironmentEnd, running);
    napi_release_threadsafe_function(running->queue, napi_tsfn_release);
    running->report.Reset();
    running->self.Reset();
  }
  napi_value error;
  if (thrown && napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
}

Running* Of(const Napi::CallbackInfo& info) {
  if (info[0].IsExternal()) return info[0].As<Napi::External<Running>>().Data();
  Napi::TypeError::New(info.Env(), "Cannot use argument 1, expected a page server").ThrowAsJavaScriptException();
  return nullptr;
}

// A BigUint64Array of whole records.
bool Numbers(const Napi::Value& value, size_t record, const uint64_t** data, size_t* records) {
  if (!value.IsTypedArray()) return false;
  napi_typedarray_type type;
  size_t length;
  void* bytes;
  if (napi_get_typedarray_info(value.Env(), value, &type, &length, &bytes, nullptr, nullptr) != napi_ok ||
      type != napi_biguint64_array || length % record != 0)
    return false;
  *data = static_cast<const uint64_t*>(bytes);
  *records = length / record;
  return true;
}

bool Files(const Napi::Value& value, std::vector<std::shared_ptr<const PagesFile>>* files, Failure* failure) {
  if (!value.IsArray()) return false;
  const Napi::Array array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); i++) {
    if (!array.Get(i).IsObject()) return false;
    const Napi::Object object = array.Get(i).As<Napi::Object>();
    const Napi::Value fd = object.Get("fd"), size = object.Get("size"), first = object.Get("firstOrdinal");
    const uint64_t* data;
    size_t records;
    if (!fd.IsNumber() || !size.IsBigInt() || !first.IsNumber() || !Numbers(object.Get("chunks"), 2, &data, &records))
      return false;
    bool lossless;
    std::vector<PageChunk> chunks(records);
    for (size_t j = 0; j < records; j++) chunks[j] = {data[2 * j], data[2 * j + 1]};
    auto file = std::make_shared<PagesFile>();
    *failure = file->Open(fd.As<Napi::Number>().Int32Value(), size.As<Napi::BigInt>().Uint64Value(&lossless),
                         first.As<Napi::Number>().Uint32Value(), std::move(chunks));
    if (*failure) return true;
    files->push_back(std::move(file));
  }
  return true;
}

bool Processes(const Napi::Value& value, const std::vector<std::shared_ptr<const PagesFile>>& files,
               std::vector<PagedProcess>* processes) {
  if (!value.IsArray()) return false;
  const Napi::Array array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); i++) {
    if (!array.Get(i).IsObject()) return false;
    const Napi::Object object = array.Get(i).As<Napi::Object>();
    const Napi::Value pid = object.Get("pid"), file = object.Get("file");
    const uint64_t* data;
    size_t records;
    if (!pid.IsNumber() || !file.IsNumber() || !Numbers(object.Get("pieces"), 3, &data, &records)) return false;
    const int64_t position = file.As<Napi::Number>().Int64Value();
    if (position < -1 || position >= static_cast<int64_t>(files.size()) || (position < 0 && records > 0)) return false;
    PagedProcess process{pid.As<Napi::Number>().Int32Value(), position < 0 ? nullptr : files[position], {}};
    for (size_t j = 0; j < records; j++) {
      const Piece piece{data[3 * j], data[3 * j + 1], data[3 * j + 2]};
      if (piece.address % kPage != 0 || piece.address >= UINT64_C(1) << 57 || piece.pages == 0 ||
          piece.pages > (UINT64_C(1) << 57) / kPage)
        return false;
      process.pieces.push_back(piece);
    }
    processes->push_back(std::move(process));
  }
  return true;
}

Napi::Value Wrong(const Napi::Env& env, const char* what) {
  Napi::TypeError::New(env, std::string("Cannot use ") + what).ThrowAsJavaScriptException();
  return env.Undefined();
}

}  // namespace

Napi::Value PageServerStart(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Args args(info);
  const int listener = args.Fd(0);
  PageServerOptions options;
  std::vector<std::shared_ptr<const PagesFile>> files;
  Failure failure;
  if (!args.ok()) return env.Undefined();
  if (!Files(info[1], &files, &failure)) return Wrong(env, "the pages files");
  if (failure) return Throw(env, failure);
  if (!Processes(info[2], files, &options.processes)) return Wrong(env, "the page maps of the processes");
  options.chunks = static_cast<uint32_t>(args.Integer(3, 0, kMostChunks, "a number of chunks"));
  if (!info[4].IsTypedArray()) return Wrong(env, "the recorded order");
  const auto order = info[4].As<Napi::Uint32Array>();
  if (order.TypedArrayType() != napi_uint32_array) return Wrong(env, "the recorded order");
  options.order.assign(order.Data(), order.Data() + order.ElementLength());
  options.cgroups = args.Strings(5);
  options.copiers = static_cast<unsigned>(args.Integer(6, 1, kMostCopiers, "a number of threads"));
  options.drain = args.Boolean(7);
  const Napi::Function report = args.Function(8);
  if (!args.ok()) return env.Undefined();

  auto running = std::make_unique<Running>();
  if (napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "thaw:pages"), 0, 1, nullptr,
                                      nullptr, running.get(), OnLoop, &running->queue) != napi_ok)
    return Wrong(env, "the event queue");
  // A server of pods lives by its sockets; this must not keep it.
  napi_unref_threadsafe_function(env, running->queue);
  running->report = Napi::Persistent(report);
  options.listener = UniqueFd(fcntl(listener, F_DUPFD_CLOEXEC, 0));
  if (!options.listener.valid()) failure = {errno, "fcntl", {}, {}};
  if (!failure) {
    running->server = std::make_unique<PageServer>(std::move(options), OnReport, running.get());
    failure = running->server->Start();
  }
  if (failure) {
    const bool threads = running->server != nullptr;
    napi_release_threadsafe_function(running->queue, threads ? napi_tsfn_abort : napi_tsfn_release);
    // Waits for threads that were asked to end and have nothing to do.
    return Throw(env, failure);
  }
  Running* const raw = running.release();
  const auto external = Napi::External<Running>::New(env, raw, [](Napi::Env, Running* ended) { delete ended; });
  raw->self = Napi::Persistent(static_cast<Napi::Object>(external.As<Napi::Object>()));
  // At the end of the process the threads still serve: nothing of theirs may go before they do.
  raw->self.SuppressDestruct();
  raw->report.SuppressDestruct();
  // Hooks run in reverse order: this one before the queue's own.
  napi_add_env_cleanup_hook(env, OnEnvironmentEnd, raw);
  return external;
}

Napi::Value PageServerGuard(const Napi::CallbackInfo& info) {
  Args args(info);
  Running* const running = Of(info);
  const int fd = args.Fd(1);
  if (running && args.ok()) running->server->SetGuard(UniqueFd(fd));
  return info.Env().Undefined();
}

Napi::Value PageServerProcess(const Napi::CallbackInfo& info) {
  Args args(info);
  Running* const running = Of(info);
  const int fd = args.Fd(1);
  if (running && args.ok()) running->server->AddProcess(UniqueFd(fd));
  return info.Env().Undefined();
}

Napi::Value PageServerPresent(const Napi::CallbackInfo& info) {
  Args args(info);
  Running* const running = Of(info);
  const Bytes bits = args.Uint8Array(1);
  if (running && args.ok()) running->server->SetPresent(bits.data, bits.length);
  return info.Env().Undefined();
}

Napi::Value PageServerDrain(const Napi::CallbackInfo& info) {
  if (Running* const running = Of(info)) running->server->Drain();
  return info.Env().Undefined();
}

Napi::Value PageServerFinish(const Napi::CallbackInfo& info) {
  if (Running* const running = Of(info)) running->server->Finish();
  return info.Env().Undefined();
}

Napi::Value PageServerStats(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Running* const running = Of(info);
  if (!running) return env.Undefined();
  const auto stats = running->server->Counts();
  Napi::Object result = Napi::Object::New(env);
  result.Set("faults", static_cast<double>(stats.faults));
  result.Set("zeroFaults", static_cast<double>(stats.zero_faults));
  result.Set("faultBytes", static_cast<double>(stats.fault_bytes));
  result.Set("drainedBytes", static_cast<double>(stats.drained_bytes));
  result.Set("missingBytes", static_cast<double>(stats.missing_pages * kPage));
  result.Set("memories", static_cast<double>(stats.processes));
  Napi::Uint32Array touched = Napi::Uint32Array::New(env, stats.touched.size());
  std::copy(stats.touched.begin(), stats.touched.end(), touched.Data());
  result.Set("touched", touched);
  return result;
}

Napi::Value MessageSockets(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  int pair[2];
  // Safe: both ends are close-on-exec and this process's alone.
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    return Throw(env, {errno, "socketpair", {}, {}});
  for (const int fd : pair) setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &kGuardBuffer, sizeof kGuardBuffer);
  Napi::Array result = Napi::Array::New(env, 2);
  result.Set(uint32_t{0}, pair[0]);
  result.Set(uint32_t{1}, pair[1]);
  return result;
}

}  // namespace thaw
