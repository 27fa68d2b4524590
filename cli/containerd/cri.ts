import type { Credentials } from '../../checkpoint/registry/index.ts';
import { type Caller, serviceMethods } from './caller.ts';

/** Of the CRI plug-in, which listens on the same socket. */
const { call } = serviceMethods('../../cri/runtime/v1/api.proto', 'runtime.v1.ImageService');

/** An image may be tens of gigabytes over a slow link. */
const PULL_DEADLINE_MS = 24 * 3_600_000;

export interface PullRequest {
  image: string;
  /** Of the RuntimeClass: by it containerd chooses the snapshotter. */
  runtimeHandler: string;
  credentials?: Credentials | undefined;
}

export function cri(caller: Caller) {
  return {
    /** As a kubelet does it. Answers with the image's id, which is a name of it in containerd too. */
    async pull({ image, runtimeHandler, credentials }: PullRequest): Promise<string> {
      const request = {
        // 2.3 and later look here, before that at the sandbox's annotation.
        image: { image, runtimeHandler },
        sandboxConfig: { annotations: { 'io.containerd.cri.runtime-handler': runtimeHandler } },
        ...(credentials ? { auth: authConfig(credentials) } : {}),
      };
      const options = { action: `pull ${image}`, deadlineMs: PULL_DEADLINE_MS };
      return (await call<{ imageRef: string }>(caller, 'PullImage', request, options)).imageRef;
    },
  };
}

function authConfig(credentials: Credentials): object {
  switch (credentials.kind) {
    case 'password':
      return { username: credentials.username, password: credentials.password };
    case 'refresh-token':
      return { identityToken: credentials.token };
  }
}
