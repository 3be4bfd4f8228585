import { useEffect, useMemo, useRef, useState } from 'react';
import { useLocation, useSearchParams } from 'react-router';

/** Delay before the address follows the input, in milliseconds: browsers limit how often it may change. */
const addressDelayMs = 150;

/** The parameters of the address, which links and the browser's history keep, and the function that replaces them. */
export function useParameters(): readonly [URLSearchParams, (next: string) => void] {
  const [search, setSearch] = useSearchParams();
  const { pathname, ...location } = useLocation();
  const state: unknown = location.state;
  const address = search.toString();
  const [text, setText] = useState(address);
  /** The address that was last read or written here. Another one comes from a navigation. */
  const known = useRef(address);
  useEffect(() => {
    if (address === known.current) return;
    known.current = address;
    setText(address);
  }, [address]);
  useEffect(() => {
    if (text === known.current) return;
    const timer = setTimeout(() => {
      // Does not undo a navigation whose page is still loading.
      if (!window.location.pathname.endsWith(pathname)) return;
      known.current = text;
      setSearch(text, { replace: true, state });
    }, addressDelayMs);
    return () => clearTimeout(timer);
  }, [text, pathname, state, setSearch]);
  return [useMemo(() => new URLSearchParams(text), [text]), setText];
}
