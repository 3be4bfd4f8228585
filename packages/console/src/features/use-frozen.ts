import type { Channel } from '@flagcast/client';
import { useEffect, useState } from 'react';

/** The value, or while `held` the one from before; another `key` lets go of it once. */
export function useFrozen<Value>(value: Value, held: boolean, key: unknown): Value {
  const [kept, setKept] = useState({ value, key });
  if (kept.value === value || (held && kept.key === key)) return kept.value;
  setKept({ value, key });
  return value;
}

/** How many events have come since `counting` began; 0 while it is false. */
export function useEventCount(channel: Channel, counting: boolean): number {
  const [count, setCount] = useState(0);
  useEffect(() => {
    setCount(0);
    if (!counting) return;
    return channel.onEvent(() => setCount((before) => before + 1));
  }, [channel, counting]);
  return count;
}
