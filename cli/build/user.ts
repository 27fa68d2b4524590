/**
 * Which ids a container's process has: as a pod's would, since a restored one must have been asked for the same. Pure.
 * Source: containerd's pkg/oci (WithUser, WithAdditionalGIDs) and the kubelet, which takes the user of an image without
 * its group.
 */
import { Code } from '../../proto/status.ts';
import { CliError } from '../error.ts';

export interface UserIds {
  uid: number;
  gid: number;
  additionalGids: number[];
}

export interface UserFiles {
  /** Texts of /etc/passwd and /etc/group of the image; empty where it has none. */
  passwd: string;
  group: string;
}

interface Account {
  name: string;
  uid: number;
  gid: number;
}

/** `asked` is what the build file says, `ofImage` the image's own user; either may be missing. */
export function resolveUser(
  asked: string | undefined,
  ofImage: string | undefined,
  files: UserFiles,
): UserIds {
  const [user = '', group] = (asked ?? ofImage?.split(':')[0] ?? '').split(':');
  const named = user === '' ? '0' : user;
  const accounts = readAccounts(files.passwd);
  const numeric = /^\d+$/.test(named);
  const account = accounts.find(({ name, uid }) => (numeric ? uid === Number(named) : name === named));
  if (account === undefined && !numeric)
    throw new CliError(
      Code.invalidArgument,
      `Cannot run as the user ${named}: the image's /etc/passwd does not know it; name its UID`,
    );
  const uid = account?.uid ?? Number(named);
  const gid = group === undefined ? (account?.gid ?? 0) : Number(group);
  return { uid, gid, additionalGids: [...new Set([gid, ...supplementary(files.group, account?.name)])] };
}

function readAccounts(passwd: string): Account[] {
  return passwd.split('\n').flatMap((line) => {
    const [name = '', , uid = '', gid = ''] = line.split(':');
    return /^\d+$/.test(uid) && /^\d+$/.test(gid) ? [{ name, uid: Number(uid), gid: Number(gid) }] : [];
  });
}

/** Groups that list the account, but for the one with its own name. */
function supplementary(group: string, account: string | undefined): number[] {
  if (account === undefined) return [];
  return group.split('\n').flatMap((line) => {
    const [name, , gid = '', members = ''] = line.split(':');
    return name !== account && /^\d+$/.test(gid) && members.split(',').includes(account) ? [Number(gid)] : [];
  });
}
