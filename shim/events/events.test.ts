import { describe, expect, it } from 'vitest';
import { containerd } from '../../proto/gen/shim.js';
import { Code } from '../../proto/status.ts';
import { TtrpcError } from '../../proto/ttrpc/index.ts';
import { encodeEvent, encodeForward } from './messages.ts';
import { EventQueue, type EventSink } from './queue.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describe('encodeEvent', () => {
  it('has the bytes that containerd decodes', () => {
    const event = encodeEvent({
      kind: 'exit',
      containerId: 'c',
      id: 'e',
      pid: 7,
      status: 137,
      exitedAt: 1_000_000_002n,
    });
    expect(event).toMatchObject({ topic: '/tasks/exit', typeUrl: 'containerd.events.TaskExit' });
    expect(hex(event.value)).toBe('0a016312016518072089012a0408011002');
  });

  it('travels in an envelope with namespace, topic and time', () => {
    const event = encodeEvent({ kind: 'exec-started', containerId: 'c', execId: 'e', pid: 7 });
    const { Envelope, ForwardRequest } = containerd.services.events.ttrpc.v1;
    const { envelope } = ForwardRequest.decode(encodeForward(event, 'k8s.io', 5_000_000_001n));
    const plain = Envelope.decode(Envelope.encode(envelope ?? {}).finish());
    expect(plain).toMatchObject({
      namespace: 'k8s.io',
      topic: '/tasks/exec-started',
      event: { type_url: 'containerd.events.TaskExecStarted' },
    });
    expect(String(plain.timestamp?.seconds)).toBe('5');
    expect(plain.timestamp?.nanos).toBe(1);
  });
});

/** Takes events, or fails as told. */
class FakeContainerd implements EventSink {
  readonly taken: string[] = [];
  failure: ((event: string) => Error | undefined) | undefined;
  closed = false;

  async send(request: Uint8Array): Promise<void> {
    const event = Buffer.from(request).toString();
    const error = this.failure?.(event);
    if (error) throw error;
    this.taken.push(event);
  }
  close(): void {
    this.closed = true;
  }
}

const retryMs = { first: 1, longest: 4 };
const down = new TtrpcError(Code.unavailable, 'down');

describe('EventQueue', () => {
  it('keeps the order while containerd is away', async () => {
    const sink = new FakeContainerd();
    let failures = 5;
    sink.failure = () => (failures-- > 0 ? down : undefined);
    const queue = new EventQueue({ sink, retryMs });
    for (const event of ['create', 'start', 'exit', 'delete']) queue.push(Buffer.from(event));
    await queue.close(2000);
    expect(sink.taken).toEqual(['create', 'start', 'exit', 'delete']);
    expect(sink.closed).toBe(true);
  });

  it('drops what containerd will never take, and says so', async () => {
    const sink = new FakeContainerd();
    sink.failure = (event) => (event === 'bad' ? new TtrpcError(Code.invalidArgument, 'topic') : undefined);
    const lost: unknown[] = [];
    const queue = new EventQueue({ sink, retryMs, onLost: (error) => lost.push(error) });
    for (const event of ['bad', 'good']) queue.push(Buffer.from(event));
    await queue.close(2000);
    expect(sink.taken).toEqual(['good']);
    expect(lost).toHaveLength(1);
  });

  it('is bounded by count and loses the oldest', async () => {
    const sink = new FakeContainerd();
    sink.failure = () => down;
    const lost: unknown[] = [];
    const queue = new EventQueue({ sink, retryMs, capacity: 3, onLost: (error) => lost.push(error) });
    for (const event of ['1', '2', '3', '4', '5']) queue.push(Buffer.from(event));
    expect(queue.length).toBe(3);
    expect(lost).toHaveLength(2);
    sink.failure = undefined;
    await queue.close(2000);
    expect(sink.taken).toEqual(['1', '4', '5']);
  });

  it('gives up at the limit of close', async () => {
    const sink = new FakeContainerd();
    sink.failure = () => down;
    const queue = new EventQueue({ sink, retryMs });
    queue.push(Buffer.from('x'));
    await queue.close(20);
    queue.push(Buffer.from('late'));
    expect(queue.length).toBe(1);
  });
});
