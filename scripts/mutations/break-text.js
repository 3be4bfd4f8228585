/**
 * Replaces `find` in the text. Throws an Error unless it occurs exactly once: the code has changed, so the mutation must be
 * updated.
 *
 * @param {string} text
 * @param {string} find
 * @param {string} replace
 * @param {string} file for the Error
 */
export function breakText(text, find, replace, file) {
  const count = text.split(find).length - 1;
  if (count !== 1)
    throw new Error(
      `${file} must contain this text once, but contains it ${count} times: ${JSON.stringify(find)}`,
    );
  return text.replace(find, () => replace);
}
