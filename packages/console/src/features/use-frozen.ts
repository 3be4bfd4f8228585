import type { Channel } from '@flagcast/client';
import { useEffect, useState } from 'react';

/** The value, or while `frozen` the previous one. A new `key` updates it once. */
export function useFrozen<Value>(value: Value, frozen: boolean, key: unknown): Value {
  const [shown, setShown] = useState({ value, key });
  if (shown.value === value || (frozen && shown.key === key)) return shown.value;
  setShown({ value, key });
  return value;
}

/** The number of events since `counting` became true; 0 while it is false. */
export function useEventCount(channel: Channel, counting: boolean): number {
  const [count, setCount] = useState(0);
  useEffect(() => {
    setCount(0);
    if (!counting) return;
    return channel.onEvent(() => setCount((before) => before + 1));
  }, [channel, counting]);
  return count;
}
