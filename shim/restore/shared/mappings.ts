/** Pure: the lines of /proc/PID/maps. */

/**
 * Where a process has mapped all of a memfd of that length, shared and to be written. Source: proc_pid_maps(5); CRIU maps
 * so what it is about to fill (do_restore_shmem_content in its shmem.c).
 */
export function wholeMemfds(maps: string, length: bigint): bigint[] {
  return maps.split('\n').flatMap((line) => {
    const found = /^([0-9a-f]+)-([0-9a-f]+) rw-s 0+ \S+ \d+ +\/memfd:.* \(deleted\)$/.exec(line);
    if (!found) return [];
    const [start, end] = [BigInt(`0x${found[1]}`), BigInt(`0x${found[2]}`)];
    return end - start === length ? [start] : [];
  });
}
