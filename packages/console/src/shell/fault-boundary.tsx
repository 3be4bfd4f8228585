import { Component, type ReactNode } from 'react';

interface FaultBoundaryProps {
  /** What stands in for what failed. */
  readonly fallback: ReactNode;
  /** Another key is another attempt. */
  readonly place: string;
  readonly children: ReactNode;
}

interface FaultBoundaryState {
  /** Where it failed; null while all is well. */
  readonly failedAt: string | null;
}

/** Keeps a page that fails from taking the rest of the console with it. The browser's console has the error. */
export class FaultBoundary extends Component<FaultBoundaryProps, FaultBoundaryState> {
  override readonly state: FaultBoundaryState = { failedAt: null };

  static getDerivedStateFromError(): Partial<FaultBoundaryState> {
    return { failedAt: '' };
  }

  override componentDidCatch(): void {
    this.setState({ failedAt: this.props.place });
  }

  override render(): ReactNode {
    const { failedAt } = this.state;
    const failed = failedAt === '' || failedAt === this.props.place;
    return failed ? this.props.fallback : this.props.children;
  }
}
