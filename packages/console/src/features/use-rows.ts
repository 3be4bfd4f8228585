import { defaultRangeExtractor, useVirtualizer } from '@tanstack/react-virtual';
import {
  type FocusEvent,
  type KeyboardEvent,
  useCallback,
  useEffect,
  useEffectEvent,
  useLayoutEffect,
  useRef,
  useState,
} from 'react';
import { useLocation } from 'react-router';

/** Where the user was in the list. */
interface Place {
  readonly top: number;
  /** The id of the row that had the focus. */
  readonly id: string | null;
}

/** By the entry of the browser's history: Back and Forward lead to where the user was. */
const places = new Map<string, Place>();

const overscanRows = 4;

interface RowsOptions {
  readonly ids: readonly string[];
  readonly rowHeight: number;
  /** The height of the sticky head, which covers rows. */
  readonly headHeight: number;
}

const rowOf = (target: EventTarget | null): HTMLElement | null =>
  target instanceof Element ? target.closest<HTMLElement>('[data-row]') : null;

/**
 * The rows in the window, the focused row also outside of it. Arrow keys move the focus. It stays on its flag while others
 * change the order, and moves to the next row when the flag goes.
 */
export function useRows({ ids, rowHeight, headHeight }: RowsOptions) {
  const scroller = useRef<HTMLDivElement>(null);
  const place = usePlace(scroller);
  const [focusedId, setFocusedId] = useState(place?.id ?? null);
  const focusedIndex = focusedId === null ? -1 : ids.indexOf(focusedId);
  const lastIndex = useRef(focusedIndex);
  // With a new function, the places of all rows are computed again.
  const getItemKey = useCallback((index: number) => ids[index] ?? index, [ids]);
  const virtualizer = useVirtualizer({
    count: ids.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => rowHeight,
    overscan: overscanRows,
    scrollMargin: headHeight,
    scrollPaddingStart: headHeight,
    initialOffset: place?.top ?? 0,
    getItemKey,
    rangeExtractor: (range) => {
      const indexes = new Set(defaultRangeExtractor(range));
      if (focusedIndex !== -1) indexes.add(focusedIndex);
      return [...indexes].toSorted((one, other) => one - other);
    },
  });
  useEffect(() => virtualizer.measure(), [virtualizer, rowHeight]);

  const focusRow = (index: number): void => {
    if (index < 0 || index >= ids.length) return;
    virtualizer.scrollToIndex(index);
    requestAnimationFrame(() => {
      scroller.current?.querySelector<HTMLElement>(`[data-index="${index}"] [data-row-link]`)?.focus();
    });
  };
  useLayoutEffect(() => {
    if (focusedIndex !== -1) lastIndex.current = focusedIndex;
    else if (focusedId !== null) {
      setFocusedId(null);
      if (document.activeElement === document.body) focusRow(Math.min(lastIndex.current, ids.length - 1));
    }
  });
  return {
    scroller,
    virtualizer,
    rowProps: {
      onFocus: ({ target }: FocusEvent) => setFocusedId(rowOf(target)?.dataset['row'] ?? null),
      onBlur: () => setFocusedId(null),
      onKeyDown: (event: KeyboardEvent) => {
        const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
        const row = rowOf(event.target);
        if (step === 0 || row === null) return;
        event.preventDefault();
        focusRow(Number(row.dataset['index']) + step);
      },
    },
  };
}

/** The place to restore, once. The current one is remembered when the list goes. */
function usePlace(scroller: { readonly current: HTMLElement | null }): Place | undefined {
  const { key } = useLocation();
  const [place] = useState(() => places.get(key));
  const remember = useEffectEvent((element: HTMLElement | null) => {
    const id = rowOf(document.activeElement)?.dataset['row'] ?? null;
    places.set(key, { top: element?.scrollTop ?? 0, id });
  });
  useLayoutEffect(() => {
    const element = scroller.current;
    return () => remember(element);
  }, [scroller]);
  useEffect(() => {
    if (place?.id === undefined || place.id === null) return;
    // After the shell has focused the content of the page.
    const frame = requestAnimationFrame(() => {
      const row = [...(scroller.current?.querySelectorAll<HTMLElement>('[data-row]') ?? [])].find(
        ({ dataset }) => dataset['row'] === place.id,
      );
      row?.querySelector<HTMLElement>('[data-row-link]')?.focus({ preventScroll: true });
    });
    return () => cancelAnimationFrame(frame);
  }, [place, scroller]);
  return place;
}
