/** What containerd is told about containers, in order and without loss. For the task service. */
export { ContainerdSink } from './containerd-sink.ts';
export { encodeEvent, encodeForward, type TaskEvent } from './messages.ts';
export { EventQueue, type EventSink } from './queue.ts';
