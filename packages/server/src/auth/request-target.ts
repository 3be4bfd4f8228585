/** An encoded character that needs no encoding, or one that separates or climbs segments once it is decoded. */
const hiddenCharacter = /%(?:2[def]|3\d|4[1-9a-f]|5[\dacf]|6[1-9a-f]|7[\dae])/i;

/**
 * Whether the path of a request target has exactly one spelling: it begins with a slash, no segment is empty or a dot
 * segment, and nothing is encoded that a proxy could decode to another path (`/%6detrics`, `/./metrics`, `//api`,
 * `/a%2fb`, `/a\b`). An absolute target (`http://host/path`) has a second host and counts as not canonical.
 */
export function hasCanonicalPath(target: string): boolean {
  const [path = ''] = target.split('?', 1);
  if (!/^\/(?:[\w.~!$&'()*+,;=:@/|[\]^-]|%[\da-f]{2})*$/i.test(path)) return false;
  return !/\/(?:\/|\.{1,2}(?:\/|$))/.test(path) && !hiddenCharacter.test(path);
}
