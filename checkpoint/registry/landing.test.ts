import { describe, expect, it } from 'vitest';
import { seeded } from '../random.test-helper.ts';
import { Landing } from './landing.ts';

describe('a landing', () => {
  it('gives back what lands, in order, whoever is faster', () => {
    const random = seeded(11);
    const sent = random.bytes(4 << 20);
    const landing = new Landing(64 * 1024);
    const got: Buffer[] = [];
    let at = 0;
    let part: Buffer | undefined;
    let copy = Buffer.alloc(0);
    const settle = () => {
      // What was lent has not been written over meanwhile.
      if (part) expect(part.equals(copy)).toBe(true);
    };
    while (Buffer.concat(got).length < sent.length) {
      // A little more may come after it was told to stop.
      const comes = !landing.blocked || random.int(4) === 0;
      if (comes && at < sent.length && random.int(3) > 0) {
        const { space } = landing;
        expect(space.length).toBeGreaterThan(0);
        const bytes = sent.subarray(at, at + 1 + random.int(space.length));
        space.set(bytes);
        landing.landed(bytes.length);
        at += bytes.length;
      } else {
        settle();
        part = landing.take();
        copy = Buffer.from(part ?? []);
        got.push(copy);
      }
    }
    expect(Buffer.concat(got).equals(sent)).toBe(true);
    expect(landing.take()).toBeUndefined();
  });

  it('is blocked where two buffers wait to be read, and not for longer', () => {
    const landing = new Landing(32 * 1024);
    const fill = () => landing.landed(landing.space.length);
    fill();
    expect(landing.blocked).toBe(false);
    fill();
    expect(landing.blocked).toBe(true);
    expect(landing.take()?.length).toBe(32 * 1024);
    expect(landing.blocked).toBe(true);
    expect(landing.take()?.length).toBe(32 * 1024);
    expect(landing.blocked).toBe(false);
  });

  it('has a place for what comes though it is blocked', () => {
    const landing = new Landing(32 * 1024);
    for (let i = 0; i < 5; i++) {
      landing.space.fill(i);
      landing.landed(landing.space.length);
    }
    for (let i = 0; i < 5; i++) {
      const part = landing.take();
      landing.space.fill(99);
      expect(part?.every((byte) => byte === i)).toBe(true);
    }
  });
});
