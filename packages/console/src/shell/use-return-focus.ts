import { useEffect, useState } from 'react';

/** Returns the focus on unmount to the element that had it on mount. For dialogs that are mounted only while open. */
export function useReturnFocus(): void {
  const [{ opener, path }] = useState(() => ({
    opener: document.activeElement,
    path: window.location.pathname,
  }));
  useEffect(
    () => () => {
      // After Mantine's own handling of the focus, which expects dialogs that stay mounted.
      setTimeout(() => {
        const isSamePage = window.location.pathname === path;
        if (isSamePage && opener instanceof HTMLElement && opener.isConnected && opener !== document.body)
          opener.focus();
        else document.getElementById('content')?.focus({ preventScroll: true });
      });
    },
    [opener, path],
  );
}
